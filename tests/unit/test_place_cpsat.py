"""CP-SAT: exact on what greedy cannot settle, reproducible, and silent about what it does not know."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place_checker import check
from solvers.place_cpsat import MOST_COUNTS, fits, place_cpsat
from solvers.place_model import count_variables
from solvers.place_numbering import cost
from solvers.place_problem import CapRule, Placement, PlaceProblem
from solvers.result import Termination
from solvers.stop import Stop
from tests.place_cases import feasible_by_construction, fleet, make


def best(problem: PlaceProblem, start: Placement | None = None) -> Placement:
    found = place_cpsat(problem, Stop(), 1, start)
    assert found.termination is Termination.OPTIMAL
    assert found.solution is not None
    assert check(problem, found.solution) == []
    assert found.objective == found.bound == found.solution.moves_gpus
    return found.solution


def test_fewest_moves_then_fewest_nodes_then_fewest_partly_full_ones() -> None:
    problem = make(sizes=[2, 2, 2, 2, 2, 2, 4], racks=[0, 0, 0], kinds=[0] * 6 + [1], current=[0, 0, 0, 1, 1, 1, -1])
    assert cost(problem, best(problem)) == (0, 3, 3)
    tight = replace(problem, max_nodes_used=np.array([2]))
    assert cost(tight, best(tight)) == (2, 2, 0)


def test_a_group_of_two_nodes_stays_where_any_of_them_stays() -> None:
    problem = make(sizes=[16, 16], racks=[0, 0, 0, 1, 1, 1], kinds=[0, 0], current=[4, 1])
    assert best(problem).moves_gpus == 0
    # Nodes 0 and 2 must go to different groups, whichever way the four are shared out.
    shared = make(sizes=[16, 16], racks=[0, 0, 0, 0], kinds=[0, 0], current=[0, 2])
    assert best(shared).moves_gpus == 0
    # Both run on one node: one of the two has to leave it.
    crowded = make(sizes=[16, 16], racks=[0, 0, 0, 0], kinds=[0, 0], current=[1, 1])
    assert best(crowded).moves_gpus == 16
    # Two nodes of one group are not two groups that stay.
    apart = make(sizes=[16, 16], racks=[0, 0, 1, 1], kinds=[0, 0], current=[0, 1])
    assert best(apart).moves_gpus == 16


def test_domains_bind_only_the_groups_that_ask_for_it() -> None:
    bound = make(sizes=[3, 3, 2], racks=[0], domain=4, one_domain=[True, True, True], kinds=[0, 0, 1])
    assert place_cpsat(bound, Stop(), 1).termination is Termination.INFEASIBLE
    assert best(make(sizes=[3, 3, 2], racks=[0], domain=4, one_domain=[True, True, False], kinds=[0, 0, 1]))


def test_no_node_for_a_kind_is_infeasible() -> None:
    problem = make(sizes=[4], racks=[0])
    closed = replace(problem, allowed=np.zeros_like(problem.allowed))
    assert place_cpsat(closed, Stop(), 1).termination is Termination.INFEASIBLE
    assert fits(closed, Stop()) is False
    assert fits(problem, Stop()) is True


def test_unknown_is_not_infeasible() -> None:
    problem = fleet(0, nodes=60, kinds=25, fill_fraction=0.9)
    nothing = place_cpsat(problem, Stop(max_deterministic_s=1e-6), 1)
    assert nothing.termination is Termination.TIME_LIMIT
    assert nothing.solution is None
    assert fits(problem, Stop(max_deterministic_s=1e-6)) is None


def test_what_is_too_large_is_not_tried() -> None:
    problem = fleet(0, nodes=400, kinds=100, fill_fraction=0.5)
    assert count_variables(problem) > MOST_COUNTS
    found = place_cpsat(problem, Stop(), 1)
    assert found.termination is Termination.TIME_LIMIT
    assert "too large" in found.notes[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_one_seed_one_placement(seed: int) -> None:
    problem = feasible_by_construction(3, racks=3, nodes_each=4, kinds=5, fill_fraction=0.9)
    first, second = (place_cpsat(problem, Stop(max_deterministic_s=0.5), seed) for _ in range(2))
    assert first.solution is not None
    assert second.solution is not None
    assert first.work == second.work
    assert first.solution.group_nodes == second.solution.group_nodes
    assert first.solution.group_gpu_indices == second.solution.group_gpu_indices


def test_enough_ends_the_search_early() -> None:
    problem = fleet(0, nodes=30, kinds=12, fill_fraction=0.9)
    found = place_cpsat(problem, Stop(), 1, enough_nodes=30)
    assert found.solution is not None
    assert found.solution.moves_gpus == 0
    assert found.termination is Termination.FEASIBLE


def test_cancelling_ends_the_search() -> None:
    problem = fleet(0, nodes=60, kinds=25, fill_fraction=0.9)
    found = place_cpsat(problem, Stop(cancelled=lambda: True), 1)
    # The first placement ends it; without one before the limits there is no more than the word.
    assert found.termination in (Termination.FEASIBLE, Termination.CANCELLED)


def test_a_group_of_two_nodes_counts_once_in_its_rack() -> None:
    problem = make(sizes=[16, 16], racks=[0, 0, 0, 0, 1, 1], kinds=[0, 0])
    once = replace(problem, caps=(CapRule(rule="c", groups=(0, 1), level=1, max_per_domain=1),))
    assert {int(problem.node_rack[nodes[0]]) for nodes in best(once).group_nodes} == {0, 1}
