"""The mix on problems whose answer is known by hand, its limits and its determinism."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from solvers.mix_milp import solve, solve_wide
from solvers.mix_problem import Block, MixProblem, MixSolution, RuleRow, SurviveRow
from solvers.result import Result, Termination
from solvers.stop import Stop
from tests.mix_cases import make, realistic, two_pools

EXACT = Stop(gap_fraction=0.0)


def solution_of(result: Result[MixSolution]) -> MixSolution:
    assert result.solution is not None
    return result.solution


@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_two_pools(solver: str) -> None:
    result = solve(two_pools(), EXACT, 1, solver)
    assert result.termination == Termination.OPTIMAL
    assert result.objective == 14.0
    assert result.bound == pytest.approx(14.0)
    solution = solution_of(result)
    assert solution.copies.tolist() == [2, 0, 3]
    assert solution.nodes.tolist() == [1, 3]
    assert solution.paid_gpus.tolist() == [4, 6]
    assert solution.flow_rps == pytest.approx([6.0, 0.0, 2.0])
    assert dict(solution.stage_values) == pytest.approx({"cost": 14.0, "gpus_used": 10.0})


def test_infeasible_is_an_answer() -> None:
    short = replace(two_pools(), pool_max_nodes=np.array([2, 2]))
    result = solve(short, EXACT, 1)
    assert (result.termination, result.solution, result.objective) == (Termination.INFEASIBLE, None, None)


def test_unmet_demand_goes_to_the_lower_level() -> None:
    """Pool 1 has GPUs for two copies of workload 1; pool 0 serves workload 0."""
    short = replace(two_pools(), pool_max_nodes=np.array([2, 2]), allow_unmet=True)
    solution = solution_of(solve(short, EXACT, 1))
    assert solution.unmet_rps == pytest.approx([0.0, 0.4])
    first = replace(short, workload_priority=np.array([2, 1]), pool_max_nodes=np.array([0, 3]))
    assert solution_of(solve(first, EXACT, 1)).unmet_rps == pytest.approx([6.0, 0.0])
    other = replace(first, workload_priority=np.array([1, 2]))
    solution = solution_of(solve(other, EXACT, 1))
    assert solution.unmet_rps == pytest.approx([0.0, 2.0])
    assert [name for name, _ in solution.stage_values] == ["serve_1", "serve_2", "cost", "gpus_used"]


def test_best_effort_never_buys_a_gpu() -> None:
    """The node that chat needs has two GPUs to spare; a best-effort workload gets these and no more."""
    problem = make(
        prices=[1.0],
        per_node=[4],
        nodes=[5],
        by_node=[True],
        rates=[2.0, 50.0],
        queues=[(0, 1, 9, [1.0, 0.0]), (0, 1, 20, [0.0, 1.0])],
        brackets=[[(1, 9, 1.0)], [(1, 20, 3.0)]],
        best_effort=[False, True],
    )
    solution = solution_of(solve(problem, EXACT, 1))
    assert solution.cost_usd_per_hour == 4.0
    assert solution.copies.tolist() == [2, 2]
    assert dict(solution.stage_values)["best_effort"] == pytest.approx(6.0 * 2.0)
    alone = replace(problem, demand_rate_rps=np.array([0.0, 50.0]))
    assert solution_of(solve(alone, EXACT, 1)).copies.tolist() == [0, 0]
    sunk = replace(problem, pool_price_usd_per_gpu_hour=np.array([0.0]))
    assert solution_of(solve(sunk, EXACT, 1)).copies.tolist() == [2, 17]


def test_surviving_a_rack_buys_spare_copies() -> None:
    problem = make(
        prices=[1.0],
        per_node=[1],
        nodes=[9],
        by_node=[False],
        rates=[2.0],
        queues=[(0, 1, 9, [1.0])],
        brackets=[[(1, 2, 0.5), (3, 9, 1.0)]],
    )
    rack = SurviveRow(rule="rack", workload=0, fraction=1.0, kind="domain", pool_domains=np.array([3]))
    solution = solution_of(solve(replace(problem, survive=(rack,)), EXACT, 1))
    # What is left must be 3 copies, for two of them hold 1 request/s only; 3 of 5 are left at 2 to a rack.
    assert solution.copies.tolist() == [5]
    assert solution.copies_per_domain_max.tolist() == [2]
    third = replace(rack, fraction=0.4)
    assert solution_of(solve(replace(problem, survive=(third,)), EXACT, 1)).copies.tolist() == [3]


def test_rules_on_copies_keep_a_queue_that_costs_more() -> None:
    rule = RuleRow(rule="both", terms=((Block.COPIES, 1, 1.0),), sense=">=", bound=1.0)
    roomy = replace(two_pools(), pool_max_nodes=np.array([2, 4]))
    result = solve(replace(roomy, rules=(rule,)), EXACT, 1)
    assert solution_of(result).copies[1] >= 1
    assert result.objective == pytest.approx(15.0)


def test_same_seed_same_answer() -> None:
    problem = realistic(5, 6, 20)
    first, second = (solve(problem, Stop(gap_fraction=1e-3), 7) for _ in range(2))
    assert first.bound == second.bound
    assert first.work == second.work
    one, two = solution_of(first), solution_of(second)
    for field in ("copies", "nodes", "paid_gpus", "flow_rps", "unmet_rps", "copies_per_domain_max"):
        assert getattr(one, field).tobytes() == getattr(two, field).tobytes()
    assert one.stage_values == two.stage_values


def test_larger_problems_are_solved_over_staffings_as_over_copies() -> None:
    problem = realistic(1, 4, 10)
    narrow, wide = solve(problem, EXACT, 1), solve_wide(problem, EXACT, 1)
    assert narrow.termination == wide.termination == Termination.OPTIMAL
    assert narrow.objective == pytest.approx(wide.objective)


def counter(calls: int) -> Callable[[], bool]:
    left = [calls]

    def cancelled() -> bool:
        left[0] -= 1
        return left[0] < 0

    return cancelled


def test_cancelled_before_it_starts() -> None:
    result = solve(two_pools(), Stop(cancelled=lambda: True), 1)
    assert (result.termination, result.solution) == (Termination.CANCELLED, None)


def test_cancelled_between_stages_keeps_the_best() -> None:
    problem = two_pools()
    found = [solve(problem, Stop(gap_fraction=0.0, cancelled=counter(calls)), 1) for calls in range(1, 12)]
    kept = [r for r in found if r.termination == Termination.CANCELLED and r.solution is not None]
    assert kept
    assert all(r.objective == 14.0 for r in kept)


def test_a_wall_limit_that_fired_is_said() -> None:
    result = solve(realistic(4, 8, 12), Stop(wall_limit_s=0.0), 1)
    assert result.termination == Termination.TIME_LIMIT
    assert result.solution is None
    assert any("wall limit" in note for note in result.notes)


def test_demand_without_a_rate_needs_nothing() -> None:
    idle = replace(two_pools(), demand_rate_rps=np.array([0.0, 0.0]))
    result = solve(idle, EXACT, 1)
    assert result.objective == 0.0
    assert solution_of(result).copies.tolist() == [0, 0, 0]


def test_rates_of_any_magnitude() -> None:
    """Every rate and capacity times a factor leaves the copies as they are."""
    problem = two_pools()
    for factor in (1e-6, 1e6):
        scaled = scale_rates(problem, factor)
        assert solution_of(solve(scaled, EXACT, 1)).copies.tolist() == [2, 0, 3]


def scale_rates(problem: MixProblem, factor: float) -> MixProblem:
    return replace(
        problem,
        demand_rate_rps=problem.demand_rate_rps * factor,
        bracket_capacity_rps=problem.bracket_capacity_rps * factor,
    )
