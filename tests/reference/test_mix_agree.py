"""HiGHS, CBC and trying every mix agree on random small problems with every feature."""

from functools import cache

import numpy as np
import pytest

from solvers.mix_exhaustive import Optimum, best_effort_tokens_per_s, optimum
from solvers.mix_milp import solve, solve_wide
from solvers.mix_problem import MixProblem, MixSolution
from solvers.result import Result, Termination
from solvers.stop import Stop
from tests.mix_cases import random_small

CASES = 200
EXACT = Stop(gap_fraction=0.0)
TOLERANCE = 1e-5


@cache
def reference(seed: int) -> Optimum | None:
    return optimum(random_small(seed))


def values(solution: MixSolution, name: str) -> tuple[float, ...]:
    return tuple(value for stage, value in solution.stage_values if stage.startswith(name))


def assert_agrees(problem: MixProblem, expected: Optimum | None, result: Result[MixSolution]) -> None:
    if expected is None:
        assert result.termination == Termination.INFEASIBLE
        assert result.solution is None
        return
    assert result.termination == Termination.OPTIMAL
    assert result.solution is not None
    assert result.objective == pytest.approx(expected.cost_usd_per_hour, abs=TOLERANCE)
    assert result.bound == pytest.approx(expected.cost_usd_per_hour, abs=TOLERANCE)
    assert values(result.solution, "serve") == pytest.approx(expected.serve, abs=TOLERANCE)
    if problem.workload_best_effort.any():
        free = problem.pool_price_usd_per_gpu_hour <= 0
        nodes = np.where(free, problem.pool_max_nodes, result.solution.nodes)
        paid = np.where(free, problem.pool_max_nodes * problem.pool_gpus_per_node, result.solution.paid_gpus)
        most = best_effort_tokens_per_s(problem, nodes.tolist(), paid.tolist(), expected.serve)
        assert values(result.solution, "best_effort") == pytest.approx((most,), abs=1e-4)


@pytest.mark.parametrize("first", range(0, CASES, 20))
@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_solvers_agree_with_trying_every_mix(solver: str, first: int) -> None:
    for seed in range(first, first + 20):
        problem = random_small(seed)
        assert_agrees(problem, reference(seed), solve(problem, EXACT, seed, solver))


@pytest.mark.parametrize("first", range(0, CASES, 50))
def test_the_model_of_all_copies_agrees_too(first: int) -> None:
    for seed in range(first, first + 50):
        problem = random_small(seed)
        assert_agrees(problem, reference(seed), solve_wide(problem, EXACT, seed))


def test_the_cases_have_every_feature() -> None:
    solved = [random_small(seed) for seed in range(CASES) if reference(seed) is not None]
    assert len(solved) >= CASES // 2
    assert CASES - len(solved) >= CASES // 10  # infeasible ones matter as well
    features = {
        "rules": [bool(p.rules) for p in solved],
        "survive a domain": [any(r.kind == "domain" for r in p.survive) for p in solved],
        "survive a zone": [any(r.kind == "zone" for r in p.survive) for p in solved],
        "unmet demand": [p.allow_unmet for p in solved],
        "best effort": [bool(p.workload_best_effort.any()) for p in solved],
        "whole nodes": [bool(p.pool_buys_nodes.all()) for p in solved],
        "single GPUs": [not p.pool_buys_nodes.any() for p in solved],
        "mixed shares": [bool(((p.share > 0).sum(axis=1) > 1).any()) for p in solved],
    }
    for name, found in features.items():
        assert sum(found) >= 5, name
