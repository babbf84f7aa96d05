"""Exact optima move the right way: more supply never costs more, a larger load never costs less."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.mix_milp import solve
from solvers.mix_problem import Block, MixProblem
from solvers.stop import Stop
from tests.mix_cases import random_small

EXACT = Stop(gap_fraction=0.0)
SEEDS = st.integers(min_value=0, max_value=10**6)
TOLERANCE = 1e-6


def cost(problem: MixProblem) -> float:
    """Of the optimum; inf where there is none."""
    result = solve(problem, EXACT, 1)
    return np.inf if result.objective is None else result.objective


def served(problem: MixProblem) -> MixProblem:
    return replace(problem, allow_unmet=False)


@settings(max_examples=40, derandomize=True)
@given(seed=SEEDS, pool=st.integers(0, 1), more=st.integers(1, 3))
def test_more_nodes_never_cost_more(seed: int, pool: int, more: int) -> None:
    problem = served(random_small(seed))
    nodes = problem.pool_max_nodes.copy()
    nodes[pool % len(nodes)] += more
    assert cost(replace(problem, pool_max_nodes=nodes)) <= cost(problem) + TOLERANCE


@settings(max_examples=40, derandomize=True)
@given(seed=SEEDS, factor=st.floats(0.2, 1.0))
def test_a_smaller_load_never_costs_more(seed: int, factor: float) -> None:
    problem = served(random_small(seed))
    rules = tuple(r for r in problem.rules if all(block != Block.FLOW_RPS for block, _, _ in r.terms))
    problem = replace(problem, rules=rules)
    less = replace(problem, demand_rate_rps=problem.demand_rate_rps * factor)
    assert cost(less) <= cost(problem) + TOLERANCE


@settings(max_examples=40, derandomize=True)
@given(seed=SEEDS, queue=st.integers(0, 4), factor=st.floats(1.0, 3.0))
def test_a_faster_queue_never_costs_more(seed: int, queue: int, factor: float) -> None:
    problem = served(random_small(seed))
    own = problem.bracket_queue == queue % len(problem.queue_pool)
    faster = np.where(own, problem.bracket_capacity_rps * factor, problem.bracket_capacity_rps)
    assert cost(replace(problem, bracket_capacity_rps=faster)) <= cost(problem) + TOLERANCE


@settings(max_examples=25, derandomize=True)
@given(seed=SEEDS, factor=st.sampled_from([1e-3, 1e3]))
def test_prices_scale(seed: int, factor: float) -> None:
    problem = served(random_small(seed))
    scaled = replace(problem, pool_price_usd_per_gpu_hour=problem.pool_price_usd_per_gpu_hour * factor)
    assert np.isclose(cost(scaled), cost(problem) * factor, rtol=1e-9) or cost(problem) == np.inf == cost(scaled)
