"""How long placement takes on 10,000 GPUs, and what first fit does there: no rules, groups as they come.

Run with `pytest tests/benchmarks/test_place_speed.py -s`. First fit needs no more nodes on these fleets; what it breaks
are the spread rules, unless groups happen to arrive so mixed that they spread by themselves.
"""

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from solvers.place import solve
from solvers.place_bounds import fewest_nodes
from solvers.place_checker import check
from solvers.place_greedy import place_greedy
from solvers.place_problem import IntArray, PlaceProblem
from solvers.stop import Stop
from tests.place_cases import fleet


def first_fit(problem: PlaceProblem, arrivals: IntArray) -> tuple[int, int, int]:
    """(nodes used, groups without a place, spread rules broken) when each group takes the first node with room."""
    free = problem.node_gpus.copy()
    free[int(problem.max_nodes_used[0]) :] = 0
    at: dict[int, int] = {}
    for group in arrivals.tolist():
        size = int(problem.group_gpus[group])
        if size <= 8:
            nodes = np.flatnonzero(free >= size)[:1]
        else:
            empty = np.flatnonzero(free == 8)
            in_one_rack = ((a, b) for a, b in pairwise(empty) if problem.node_rack[a] == problem.node_rack[b])
            nodes = np.array(next(in_one_rack, ()), dtype=np.int64)
        if nodes.size:
            at[group] = int(nodes[0])
            free[nodes] -= size // len(nodes)
    broken = sum(
        len({int(problem.node_rack[at[g]]) for g in rule.groups if g in at}) < rule.min_domains
        for rule in problem.spread
    )
    taken = free[: int(problem.max_nodes_used[0])] < problem.node_gpus[: int(problem.max_nodes_used[0])]
    return int(taken.sum()), len(problem.group_gpus) - len(at), broken


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize(("seed", "fill_fraction"), [(1, 0.9), (2, 0.9), (1, 0.97)])
def test_placement_on_ten_thousand_gpus(seed: int, fill_fraction: float, tight: bool) -> None:
    problem = fleet(seed, nodes=1250, kinds=300, fill_fraction=fill_fraction)
    least = fewest_nodes(problem)
    if tight:
        problem = replace(problem, max_nodes_used=np.array([least]))
    started = time.perf_counter()
    greedy = place_greedy(problem)
    middle = time.perf_counter()
    found = solve(problem, Stop(), 1)
    ended = time.perf_counter()
    assert greedy is not None
    assert check(problem, greedy) == []
    assert found.solution is not None
    used = int(found.solution.nodes_used[0])
    print(  # noqa: T201 (a benchmark's result)
        f"\n{len(problem.group_gpus)} groups at {fill_fraction:.0%}, {'only the' if tight else 'more than the'} nodes "
        f"needed: greedy {middle - started:.2f} s, {int(greedy.nodes_used[0])} nodes; solve with checks "
        f"{ended - middle:.2f} s, {used} nodes (bound {least}), 0 unplaced, 0 rules broken"
    )
    in_turn = np.argsort(problem.group_kind, kind="stable")
    for order, arrivals in (("mixed", np.arange(len(in_turn))), ("queue by queue", in_turn)):
        nodes, unplaced, broken = first_fit(problem, arrivals)
        print(  # noqa: T201 (a benchmark's result)
            f"  ratio of nodes to first fit, arrivals {order}: {used / nodes:.4f} "
            f"({nodes} nodes, {unplaced} unplaced, {broken} of {len(problem.spread)} rules broken)"
        )
    assert used == least
