"""Placement of generated problems that are feasible by construction, and what changing them may do."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.place import solve
from solvers.place_checker import check
from solvers.place_exhaustive import optimum
from solvers.place_numbering import cost
from solvers.place_problem import IntArray, PlaceProblem
from solvers.result import Termination
from solvers.stop import Stop
from tests.place_cases import feasible_by_construction, running, small


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    racks=st.integers(2, 5),
    nodes_each=st.integers(1, 5),
    kinds=st.integers(1, 8),
    fill=st.floats(0.3, 1.0),
)
def test_what_has_a_placement_gets_one(seed: int, racks: int, nodes_each: int, kinds: int, fill: float) -> None:
    problem = feasible_by_construction(seed, racks, nodes_each, kinds, fill)
    found = solve(problem, Stop(), 1)
    assert found.solution is not None, found
    assert found.termination in (Termination.OPTIMAL, Termination.FEASIBLE)
    assert check(problem, found.solution) == []
    assert found.bound is not None
    assert found.objective is not None
    assert found.bound <= found.objective
    # Where it runs already, nothing moves.
    again = solve(running(problem, found.solution), Stop(), 1)
    assert again.objective == 0.0


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), more=st.integers(1, 3))
def test_more_nodes_never_cost_more_moves(seed: int, more: int) -> None:
    problem = small(seed)
    wider = replace(problem, max_nodes_used=problem.max_nodes_used + more)
    before, after = optimum(problem), solve(wider, Stop(), 1)
    if before is not None:
        assert after.solution is not None
        assert cost(wider, after.solution)[0] <= before[0][0]


@settings(max_examples=60, derandomize=True)
@given(seed=st.integers(0, 10**6), order=st.integers(0, 10**6))
def test_the_order_of_nodes_and_groups_does_not_matter(seed: int, order: int) -> None:
    problem = small(seed)
    rng = np.random.default_rng(order)
    shuffled = _shuffled(problem, rng.permutation(len(problem.node_gpus)), rng.permutation(len(problem.group_gpus)))
    first, second = solve(problem, Stop(), 1), solve(shuffled, Stop(), 1)
    assert first.termination is second.termination
    if first.solution is not None and second.solution is not None:
        assert cost(problem, first.solution)[:2] == cost(shuffled, second.solution)[:2]


def _shuffled(problem: PlaceProblem, nodes: IntArray, groups: IntArray) -> PlaceProblem:
    """The same problem with node nodes[i] at i and group groups[i] at i."""
    node_at = {int(old): new for new, old in enumerate(nodes)}
    group_at = {int(old): new for new, old in enumerate(groups)}

    def renamed(members: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(group_at[g] for g in members))

    current = [node_at.get(int(n), -1) for n in problem.current_node[groups]]
    return replace(
        problem,
        node_pool=problem.node_pool[nodes],
        node_rack=problem.node_rack[nodes],
        node_zone=problem.node_zone[nodes],
        node_gpus=problem.node_gpus[nodes],
        node_domain_gpus=problem.node_domain_gpus[nodes],
        group_pool=problem.group_pool[groups],
        group_gpus=problem.group_gpus[groups],
        group_one_domain=problem.group_one_domain[groups],
        group_kind=problem.group_kind[groups],
        allowed=problem.allowed[np.ix_(groups, nodes)],
        current_node=np.array(current, dtype=np.int64),
        spread=tuple(replace(r, groups=renamed(r.groups)) for r in problem.spread),
        caps=tuple(replace(r, groups=renamed(r.groups)) for r in problem.caps),
        apart=tuple(replace(r, first=renamed(r.first), second=renamed(r.second)) for r in problem.apart),
    )
