"""Placement on small problems: greedy, CP-SAT and enumeration agree; cores are what they say."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place import solve
from solvers.place_bounds import contradiction, fewest_nodes
from solvers.place_checker import check
from solvers.place_core import core
from solvers.place_cpsat import place_cpsat
from solvers.place_exhaustive import optimum
from solvers.place_greedy import place_greedy
from solvers.place_numbering import cost
from solvers.place_problem import Core, PlaceProblem
from solvers.place_validate import validate
from solvers.result import Termination
from solvers.stop import Stop
from tests.place_cases import small

CASES, BATCH = 300, 20


@pytest.mark.parametrize("first", range(0, CASES, BATCH))
def test_solvers_agree_with_trying_everything(first: int) -> None:
    for seed in range(first, first + BATCH):
        problem = small(seed)
        validate(problem)
        best = optimum(problem)
        if best is None:
            _all_deny(problem, seed)
            continue
        value, placement = best
        assert check(problem, placement) == [], seed
        assert cost(problem, placement) == value, seed
        assert contradiction(problem) is None, seed
        assert fewest_nodes(problem) <= value[1], seed
        exact = place_cpsat(problem, Stop(), 1)
        assert exact.termination is Termination.OPTIMAL, seed
        assert exact.solution is not None
        assert check(problem, exact.solution) == [], seed
        assert cost(problem, exact.solution) == value, seed
        assert exact.bound == value[0], seed
        found = solve(problem, Stop(), 1)
        assert found.termination is Termination.OPTIMAL, seed
        assert found.solution is not None
        assert cost(problem, found.solution)[:2] == value[:2], seed
        greedy = place_greedy(problem)
        assert greedy is None or check(problem, greedy) == [], seed
        assert greedy is None or cost(problem, greedy) >= value, seed


def _all_deny(problem: PlaceProblem, seed: int) -> None:
    assert place_greedy(problem) is None, seed
    assert place_cpsat(problem, Stop(), 1).termination is Termination.INFEASIBLE, seed
    assert solve(problem, Stop(), 1).termination is Termination.INFEASIBLE, seed


def test_the_cases_hold_what_they_are_for() -> None:
    """Feasible ones, greedy misses, plain and deep conflicts, moves that cannot be avoided: enough of each."""
    seen = {"feasible": 0, "greedy misses": 0, "plain": 0, "deep": 0, "moves": 0}
    for seed in range(CASES):
        problem = small(seed)
        best = optimum(problem)
        seen["feasible"] += best is not None
        seen["moves"] += best is not None and best[0][0] > 0
        seen["greedy misses"] += best is not None and place_greedy(problem) is None
        seen["plain"] += contradiction(problem) is not None
        seen["deep"] += best is None and contradiction(problem) is None
    assert seen["feasible"] >= 100, seen
    assert seen["moves"] >= 50, seen
    assert seen["greedy misses"] >= 3, seen
    assert seen["plain"] >= 50, seen
    assert seen["deep"] >= 20, seen


@pytest.mark.parametrize("first", range(0, CASES, 2 * BATCH))
def test_a_core_is_impossible_and_every_group_and_rule_of_it_is_needed(first: int) -> None:
    for seed in range(first, first + 2 * BATCH):
        problem = small(seed)
        if optimum(problem) is not None:
            continue
        found = core(problem, Stop())
        assert found.minimal, seed
        assert optimum(_only(problem, found.groups, found.rules)) is None, seed
        for group in found.groups:
            fewer = tuple(g for g in found.groups if g != group)
            assert optimum(_only(problem, fewer, found.rules)) is not None, (seed, found, group)
        for rule in found.rules:
            others = tuple(r for r in found.rules if r != rule)
            assert optimum(_only(problem, found.groups, others)) is not None, (seed, found, rule)


def _only(problem: PlaceProblem, groups: tuple[int, ...], rules: tuple[str, ...]) -> PlaceProblem:
    """Some groups under some rules; for spread rules each group left out stands in domains of its own."""
    new = {group: position for position, group in enumerate(groups)}
    kept = list(groups)

    def inside(members: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(new[g] for g in members if g in new)

    def alone(group: int, level: int) -> int:
        own = problem.node_gpus[problem.allowed[group] & (problem.node_pool == problem.group_pool[group])]
        return -(-int(problem.group_gpus[group]) // int(own.max())) if level == 0 and own.size else 1

    return replace(
        problem,
        group_pool=problem.group_pool[kept],
        group_gpus=problem.group_gpus[kept],
        group_one_domain=problem.group_one_domain[kept],
        group_kind=problem.group_kind[kept],
        allowed=problem.allowed[kept],
        current_node=np.full(len(kept), -1, dtype=np.int64),
        spread=tuple(
            replace(
                r,
                groups=inside(r.groups),
                min_domains=max(0, r.min_domains - sum(alone(g, r.level) for g in r.groups if g not in new)),
            )
            for r in problem.spread
            if r.rule in rules
        ),
        caps=tuple(replace(r, groups=inside(r.groups)) for r in problem.caps if r.rule in rules),
        apart=tuple(
            replace(r, first=inside(r.first), second=inside(r.second)) for r in problem.apart if r.rule in rules
        ),
    )


def test_a_core_that_is_too_large_is_noticed() -> None:
    """The check above can fail: a core with a group too many does not pass it."""
    problem = small(28)
    found = core(problem, Stop())
    spare = next(g for g in range(len(problem.group_gpus)) if g not in found.groups)
    padded = Core(groups=(*found.groups, spare), rules=found.rules, minimal=True)
    fewer = tuple(g for g in padded.groups if g != spare)
    assert optimum(_only(problem, fewer, padded.rules)) is None
