"""HiGHS behind PuLP's interface: one thread, warm start, node limit, cancellation, its own status and bound.

PuLP's class hands columns and rows over one by one, ignores `warmStart` and fails on status values that are newer
than its table. The pool of threads is global to the process: a second thread count would return unsolved models,
so it is always one.
"""

from typing import Any

import highspy
import numpy as np
import pulp

from solvers.result import Termination
from solvers.run_report import RunLimits, RunReport

ENDS = {
    highspy.HighsModelStatus.kOptimal: Termination.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: Termination.INFEASIBLE,
    # Every objective here is bounded from below, so the other case of this status cannot be.
    highspy.HighsModelStatus.kUnboundedOrInfeasible: Termination.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: Termination.TIME_LIMIT,
    highspy.HighsModelStatus.kIterationLimit: Termination.FEASIBLE,
    highspy.HighsModelStatus.kSolutionLimit: Termination.FEASIBLE,
    highspy.HighsModelStatus.kInterrupt: Termination.CANCELLED,
}
FEASIBLE_POINT = 2  # HiGHS: primal_solution_status kSolutionStatusFeasible
ABSOLUTE_GAP = 1e-9
FEASIBILITY_TOLERANCE = 1e-7


def highs_is_there() -> bool:
    """Whether PuLP can run HiGHS in this process."""
    return bool(pulp.HiGHS().available())


class OneThreadHighs(pulp.HiGHS):  # type: ignore[misc]  # PuLP ships no types
    """PuLP's HiGHS with what PuLP leaves out; `report` says how the last run ended."""

    def __init__(self, limits: RunLimits, warm: bool, integral: bool) -> None:
        def poll(_kind: Any, _message: str, _out: Any, order: Any, _data: Any) -> None:
            order.user_interrupt = limits.cancelled()

        super().__init__(
            mip=integral,
            msg=False,
            gapRel=limits.gap_fraction,
            gapAbs=ABSOLUTE_GAP,
            threads=1,
            timeLimit=limits.wall_s,
            callbackTuple=(poll, None),
            callbacksToActivate=[highspy.cb.HighsCallbackType.kCallbackMipInterrupt],
            random_seed=limits.seed % 2**31,
            mip_max_nodes=limits.max_nodes,
            mip_feasibility_tolerance=FEASIBILITY_TOLERANCE,
        )
        self._warm = warm
        self.report = RunReport(termination=Termination.TIME_LIMIT, has_solution=False)

    def buildSolverModel(self, lp: Any) -> None:  # noqa: N802 (PuLP's name)
        """Hand the whole model over at once."""
        variables = lp.variables()
        for index, variable in enumerate(variables):
            variable.index = index
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(variables), len(lp._constraints)
        model.col_cost_ = np.array([lp.objective.get(variable, 0.0) for variable in variables])
        model.col_lower_ = _bounds([variable.lowBound for variable in variables], -highspy.kHighsInf)
        model.col_upper_ = _bounds([variable.upBound for variable in variables], highspy.kHighsInf)
        if self.mip:
            kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
            model.integrality_ = [kinds[variable.cat == pulp.LpInteger] for variable in variables]
        _fill_rows(model, list(lp._constraints.values()))
        if lp.solverModel.passModel(model) == highspy.HighsStatus.kError:
            raise RuntimeError("HiGHS refuses the model")

    def callSolver(self, lp: Any) -> None:  # noqa: N802
        """Run, from the variables' values when the run is a warm one."""
        if self._warm:
            start = highspy.HighsSolution()
            start.col_value = [variable.varValue or 0.0 for variable in lp.variables()]
            lp.solverModel.setSolution(start)
        lp.solverModel.run()

    def findSolutionValues(self, lp: Any) -> tuple[int, int]:  # noqa: N802
        """Values only if HiGHS holds a feasible point; PuLP's pair of status codes. Raises RuntimeError on failure."""
        solver = lp.solverModel
        status, info = solver.getModelStatus(), solver.getInfo()
        if status not in ENDS:
            raise RuntimeError(f"HiGHS ended with {solver.modelStatusToString(status)!r}")
        solved = info.primal_solution_status == FEASIBLE_POINT and status != highspy.HighsModelStatus.kInfeasible
        self.report = RunReport(
            termination=ENDS[status],
            has_solution=solved,
            bound=self._bound(info, ENDS[status]),
            nodes=max(0, int(info.mip_node_count)) if self.mip else 0,
        )
        if not solved:
            return pulp.LpStatusNotSolved, pulp.LpSolutionNoSolutionFound
        self._assign(lp, solver.getSolution())
        proven = status == highspy.HighsModelStatus.kOptimal
        return pulp.LpStatusOptimal, pulp.LpSolutionOptimal if proven else pulp.LpSolutionIntegerFeasible

    def _bound(self, info: Any, end: Termination) -> float | None:
        if end == Termination.INFEASIBLE:
            return None
        if not self.mip:
            return float(info.objective_function_value) if end == Termination.OPTIMAL else None
        bound = float(info.mip_dual_bound)
        return bound if np.isfinite(bound) else None

    @staticmethod
    def _assign(lp: Any, solution: Any) -> None:
        for variable, value in zip(lp.variables(), solution.col_value, strict=True):
            variable.varValue = value
        duals = list(solution.row_dual) if solution.dual_valid else [None] * len(lp._constraints)
        for row, dual in zip(lp._constraints.values(), duals, strict=True):
            row.pi = dual


def _bounds(values: list[float | None], missing: float) -> Any:
    return np.array([missing if value is None else value for value in values], dtype=np.float64)


def _fill_rows(model: Any, rows: list[Any]) -> None:
    lower = _bounds([row.getLb() for row in rows], -highspy.kHighsInf)
    upper = _bounds([row.getUb() for row in rows], highspy.kHighsInf)
    model.row_lower_, model.row_upper_ = lower, upper
    matrix = model.a_matrix_
    matrix.format_ = highspy.MatrixFormat.kRowwise
    matrix.start_ = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    matrix.index_ = np.array([variable.index for row in rows for variable in row], dtype=np.int32)
    matrix.value_ = np.array([value for row in rows for value in row.values()], dtype=np.float64)
