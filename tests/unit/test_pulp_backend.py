"""What the backends say of a run is what happened, where PuLP's own words differ."""

from collections.abc import Callable

import numpy as np
import pytest

from solvers.linear_model import LinearModel
from solvers.pulp_backend import Limits, PulpProgram, UnknownSolverError, available_solvers
from solvers.result import Termination

SOLVERS = ("highs", "cbc")


def knapsack() -> tuple[LinearModel, dict[int, float]]:
    """Twenty rows over sixty integers: solved in seconds, not at the root."""
    rng = np.random.default_rng(0)
    linear = LinearModel()
    columns = [linear.whole(3.0) for _ in range(60)]
    for _ in range(20):
        weights = rng.integers(0, 50, len(columns)).astype(float)
        linear.row(dict(zip(columns, weights.tolist(), strict=True)), "<=", float(weights.sum()) * 0.7)
    return linear, {column: -float(value) for column, value in enumerate(rng.integers(10, 99, len(columns)))}


def counter(calls: int) -> Callable[[], bool]:
    """True from the so-many-th call on."""
    left = [calls]

    def cancelled() -> bool:
        left[0] -= 1
        return left[0] < 0

    return cancelled


def test_both_solvers_are_there() -> None:
    assert set(SOLVERS) <= set(available_solvers())


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(UnknownSolverError, match="no_such_solver"):
        PulpProgram(knapsack()[0], "no_such_solver")


@pytest.mark.parametrize(("solver", "nodes"), [("highs", 2), ("cbc", 1000)])
def test_a_limit_on_nodes_is_not_called_optimal(solver: str, nodes: int) -> None:
    linear, objective = knapsack()
    outcome = PulpProgram(linear, solver).minimise(objective, Limits(max_nodes=nodes))
    assert outcome.termination == Termination.FEASIBLE
    assert outcome.values is not None
    assert outcome.objective is not None
    assert outcome.bound is not None
    assert outcome.bound < outcome.objective - 1.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_values_without_a_solution(solver: str) -> None:
    linear, objective = knapsack()
    program = PulpProgram(linear, solver)
    outcome = program.minimise(objective, Limits(wall_s=1e-9))
    assert outcome.termination == Termination.TIME_LIMIT
    assert outcome.values is None
    assert outcome.objective is None


@pytest.mark.parametrize("solver", SOLVERS)
def test_infeasible(solver: str) -> None:
    linear, objective = knapsack()
    linear.row({0: 2.0, 1: 2.0}, "==", 3.0)  # no integer point; the relaxation has one
    outcome = PulpProgram(linear, solver).minimise(objective, Limits())
    assert outcome.termination == Termination.INFEASIBLE
    assert outcome.values is None
    assert outcome.bound is None
    linear.row({0: 1.0}, ">=", 9.0)
    assert PulpProgram(linear, solver).minimise_relaxed(objective, Limits()).termination == Termination.INFEASIBLE


def test_a_warm_start_is_used() -> None:
    linear, objective = knapsack()
    program = PulpProgram(linear, "highs")
    good = program.minimise(objective, Limits(gap_fraction=0.01))
    assert good.values is not None
    assert program.minimise(objective, Limits(max_nodes=0)).values is None
    warm = program.minimise(objective, Limits(max_nodes=0), good.values)
    assert warm.objective == good.objective


def test_cancellation_keeps_the_best_point() -> None:
    linear, objective = knapsack()
    outcome = PulpProgram(linear, "highs").minimise(objective, Limits(cancelled=counter(400)))
    assert outcome.termination == Termination.CANCELLED
    assert outcome.values is not None


@pytest.mark.parametrize("solver", SOLVERS)
def test_relaxed_runs_have_duals(solver: str) -> None:
    linear = LinearModel()
    column = linear.whole(9.0)
    linear.row({column: 2.0}, ">=", 3.0)
    outcome = PulpProgram(linear, solver).minimise_relaxed({column: 4.0}, Limits())
    assert outcome.values is not None
    assert outcome.duals is not None
    assert outcome.values[0] == pytest.approx(1.5)
    assert outcome.objective == pytest.approx(6.0)
    assert outcome.duals[0] == pytest.approx(2.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_optimum_bound_and_changes_between_runs(solver: str) -> None:
    linear = LinearModel()
    one, two = linear.whole(10.0), linear.continuous(np.inf)
    linear.row({one: 1.0, two: 1.0}, ">=", 2.5)
    program = PulpProgram(linear, solver)
    first = program.minimise({one: 1.0, two: 3.0}, Limits())
    assert first.termination == Termination.OPTIMAL
    assert first.objective == pytest.approx(3.0)
    assert first.bound == pytest.approx(3.0)
    program.set_bounds(one, 0.0, 1.0)
    assert program.minimise({one: 1.0, two: 3.0}, Limits()).objective == pytest.approx(5.5)
    program.add_row({two: 1.0}, "<=", 1.0)
    assert program.minimise({one: 1.0, two: 3.0}, Limits()).termination == Termination.INFEASIBLE
    assert program.minimise({}, Limits()).values is None


@pytest.mark.filterwarnings("ignore:PULP_CBC_CMD is deprecated:DeprecationWarning")
def test_any_other_solver_of_pulp_runs_without_a_bound() -> None:
    linear, objective = knapsack()
    outcome = PulpProgram(linear, "PULP_CBC_CMD").minimise(objective, Limits(wall_s=20.0))
    assert outcome.termination in (Termination.OPTIMAL, Termination.FEASIBLE)
    assert outcome.values is not None
    assert outcome.bound is None
