"""Bounds of relaxed problems stay below the cost of what they bound."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.mix_bound import bound
from solvers.mix_milp import solve
from solvers.mix_problem import MixProblem
from solvers.result import Termination
from solvers.stop import Stop
from tests.mix_cases import random_small, two_pools

EXACT = Stop(gap_fraction=0.0)


def fluid(problem: MixProblem) -> MixProblem:
    """Every copy works at the best rate of any bracket of its queue, whatever their number; 99 % must be served."""
    best = np.zeros(len(problem.queue_pool))
    np.maximum.at(best, problem.bracket_queue, problem.bracket_capacity_rps)
    some = np.flatnonzero(problem.queue_max_copies > 0)
    return replace(
        problem,
        demand_rate_rps=problem.demand_rate_rps * 0.99,
        bracket_queue=some,
        bracket_low=np.ones(len(some), dtype=np.int64),
        bracket_high=problem.queue_max_copies[some],
        bracket_capacity_rps=best[some],
        rules=(),
        survive=(),
    )


def test_the_bound_of_a_problem_is_its_optimum() -> None:
    result = bound(two_pools(), EXACT, 1)
    assert (result.termination, result.solution) == (Termination.OPTIMAL, None)
    assert result.bound == pytest.approx(14.0)
    assert result.objective == pytest.approx(14.0)


def test_fluid_bounds_stay_below() -> None:
    compared = 0
    for seed in range(60):
        problem = random_small(seed)
        solved = solve(problem, EXACT, 1)
        if solved.solution is None or solved.objective is None:
            continue
        relaxed = bound(fluid(problem), EXACT, 1, solved.solution.stage_values)
        assert relaxed.bound is not None
        assert relaxed.bound <= solved.objective + 1e-6
        compared += 1
    assert compared >= 20


def test_the_serve_values_of_the_plan_are_what_is_bounded() -> None:
    """With a plan that leaves a level unmet, plans that serve no more count as well: the bound falls."""
    problem = replace(two_pools(), allow_unmet=True)
    whole = bound(problem, EXACT, 1)
    half = bound(problem, EXACT, 1, (("serve_1", 0.5),))
    assert whole.bound == pytest.approx(14.0)
    assert half.bound is not None
    assert half.bound < 14.0


def test_infeasible() -> None:
    result = bound(replace(two_pools(), pool_max_nodes=np.array([2, 2])), EXACT, 1)
    assert (result.termination, result.bound) == (Termination.INFEASIBLE, None)
