"""Runs a linear model on a solver that PuLP finds, and says honestly what came back.

PuLP reports "Optimal" at a time limit, leaves values behind when there is no solution, and ignores a warm start for
HiGHS; so status, values, bound and node count are read from the solver itself wherever it can be asked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pulp
from numpy.typing import NDArray

from solvers.cbc_backend import OneThreadCbc, cbc_is_there
from solvers.highs_backend import OneThreadHighs, highs_is_there
from solvers.linear_model import LinearModel, Sense
from solvers.result import Termination
from solvers.run_report import RunReport

FloatArray = NDArray[np.float64]
SENSES = {"<=": pulp.LpConstraintLE, ">=": pulp.LpConstraintGE, "==": pulp.LpConstraintEQ}


class UnknownSolverError(ValueError):
    """The solver that was asked for is not one that PuLP finds on this machine."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run. `max_nodes` before `wall_s`: only the first keeps runs reproducible."""

    gap_fraction: float = 0.0
    max_nodes: int = 1_000_000
    wall_s: float = 1e6
    seed: int = 0
    cancelled: Callable[[], bool] = field(default=_never)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one run returned. `values` [columns] is None unless the solver holds a feasible point.

    `bound` is a lower bound on the minimum, None where the solver does not say one. `duals` [rows]: of relaxed runs.
    """

    termination: Termination
    values: FloatArray | None
    objective: float | None
    bound: float | None
    nodes: int
    duals: FloatArray | None = None


class _Runner(Protocol):
    """A PuLP solver that also reports on its run."""

    report: RunReport


def available_solvers() -> tuple[str, ...]:
    """Names that `PulpProgram` takes here: "highs" and "cbc" if they are there, then PuLP's own names of the others."""
    ours = [name for name, there in (("highs", highs_is_there()), ("cbc", cbc_is_there())) if there]
    listed = pulp.listSolvers(onlyAvailable=True)
    return tuple(ours + sorted(name for name in listed if name not in ("HiGHS", "PULP_CBC_CMD")))


class PulpProgram:
    """A linear model in PuLP's hands: built once, solved for one objective after another."""

    def __init__(self, linear: LinearModel, solver: str) -> None:
        if solver not in ("highs", "cbc") and solver not in pulp.listSolvers(onlyAvailable=True):
            raise UnknownSolverError(f"solver {solver!r} is not there; PuLP finds {', '.join(available_solvers())}")
        self._solver = solver
        self._problem = pulp.LpProblem("mix", pulp.LpMinimize)
        self._integer = np.array(linear.integer, dtype=bool)
        self._columns = [self._variable(linear, column) for column in range(len(linear.upper))]
        self._rows: list[Any] = []
        for row in linear.rows:
            self.add_row(row.terms, row.sense, row.bound)

    def _variable(self, linear: LinearModel, column: int) -> Any:
        # The padded name keeps PuLP's order by name equal to ours.
        category = pulp.LpInteger if linear.integer[column] else pulp.LpContinuous
        return self._problem.add_variable(
            f"x{column:08d}", linear.lower[column], _finite(linear.upper[column]), category
        )

    def add_row(self, terms: Mapping[int, float], sense: Sense, bound: float) -> None:
        """Add a row for all later runs."""
        expression = pulp.LpAffineExpression([(self._columns[column], value) for column, value in terms.items()])
        row = pulp.LpConstraint(expression, SENSES[sense], f"r{len(self._rows):08d}", bound)
        self._problem.addConstraint(row)
        self._rows.append(row)

    def set_bounds(self, column: int, lower: float, upper: float) -> None:
        """Change a column's bounds for all later runs; inf is no upper bound."""
        self._columns[column].lowBound = lower
        self._columns[column].upBound = _finite(upper)

    def upper_bounds(self) -> FloatArray:
        """[columns] upper bounds as they stand; inf is none."""
        limits = [column.upBound for column in self._columns]
        return np.array([np.inf if limit is None else limit for limit in limits], dtype=np.float64)

    def minimise(self, terms: Mapping[int, float], limits: Limits, start: FloatArray | None = None) -> Outcome:
        """Minimise `Σ terms[column] · column` over the integer model, from `start` if there is one.

        Raises RuntimeError when the solver fails or calls the model unbounded.
        """
        return self._run(terms, limits, start, True)

    def minimise_relaxed(self, terms: Mapping[int, float], limits: Limits) -> Outcome:
        """The same without integrality; the outcome has the rows' duals where the solver gives them."""
        return self._run(terms, limits, None, False)

    def _run(self, terms: Mapping[int, float], limits: Limits, start: FloatArray | None, integral: bool) -> Outcome:
        scale = max((abs(value) for value in terms.values()), default=0.0) or 1.0
        # Without a term PuLP would add a dummy variable for good.
        scaled = [(self._columns[column], value / scale) for column, value in (terms or {0: 0.0}).items()]
        self._problem.setObjective(pulp.LpAffineExpression(scaled))
        for column, variable in enumerate(self._columns):
            variable.varValue = None if start is None else float(start[column])
        runner = self._runner(limits, start is not None, integral)
        self._problem.solve(runner)
        return self._outcome(runner.report, terms, scale, None if integral else limits)

    def _runner(self, limits: Limits, warm: bool, integral: bool) -> Any:
        if self._solver == "highs":
            return OneThreadHighs(limits, warm, integral)
        if self._solver == "cbc":
            return OneThreadCbc(limits, warm, integral)
        return _OtherSolver(pulp.getSolver(self._solver, msg=False, mip=integral, timeLimit=limits.wall_s))

    def _outcome(self, report: RunReport, terms: Mapping[int, float], scale: float, relaxed: Limits | None) -> Outcome:
        values = None
        if report.has_solution:
            values = np.array([variable.varValue for variable in self._columns], dtype=np.float64)
            if relaxed is None:
                values[self._integer] = np.round(values[self._integer])
        duals = None
        if values is not None and relaxed is not None and all(row.pi is not None for row in self._rows):
            duals = np.array([row.pi for row in self._rows], dtype=np.float64) * scale
        return Outcome(
            termination=report.termination,
            values=values,
            objective=None if values is None else float(sum(value * values[c] for c, value in terms.items())),
            bound=None if report.bound is None else report.bound * scale,
            nodes=report.nodes,
            duals=duals,
        )


class _OtherSolver:
    """Any other solver of PuLP, believed only as far as `sol_status` goes: no bound, no node count."""

    def __init__(self, solver: Any) -> None:
        self._solver = solver
        self.report = RunReport(termination=Termination.TIME_LIMIT, has_solution=False)

    def actualSolve(self, lp: Any) -> int:  # noqa: N802 (PuLP's name)
        status: int = self._solver.actualSolve(lp)
        ends = {
            pulp.LpSolutionOptimal: Termination.OPTIMAL,
            pulp.LpSolutionIntegerFeasible: Termination.FEASIBLE,
            pulp.LpSolutionInfeasible: Termination.INFEASIBLE,
            pulp.LpSolutionNoSolutionFound: Termination.TIME_LIMIT,
        }
        if lp.sol_status not in ends:
            raise RuntimeError(f"the solver calls the model {pulp.LpStatus[lp.status]}")
        solved = lp.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
        self.report = RunReport(termination=ends[lp.sol_status], has_solution=solved)
        return status


def _finite(bound: float) -> float | None:
    return bound if np.isfinite(bound) else None
