"""CBC behind PuLP's interface: the bundled program, one thread; its log tells how the run ended and the bound."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pulp

from solvers.result import Termination
from solvers.run_report import RunLimits, RunReport

BOUND = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
NODES = re.compile(r"^Enumerated nodes:\s+(\d+)", re.MULTILINE)
RESULT = re.compile(r"^Result - (.*)$", re.MULTILINE)
SECONDS_WITHOUT_LIMIT = 1e6
# CBC 2.10.3 (bundled) ends with "Optimal" at a heuristic's first point when the optimum is 0, as in a serve stage
# that can serve everything: 3 of 500 random problems of the tests, none without its heuristics.
WITHOUT_HEURISTICS = "heuristics off"


def cbc_is_there() -> bool:
    """Whether the CBC that PuLP bundles can be run."""
    return bool(pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path).available())


class OneThreadCbc(pulp.COIN_CMD):  # type: ignore[misc]  # PuLP ships no types
    """PuLP's CBC; `report` says how the last run ended. A run cannot be cancelled before its limits."""

    def __init__(self, limits: RunLimits, warm: bool, integral: bool) -> None:
        seed = limits.seed % 2**31
        super().__init__(
            path=pulp.PULP_CBC_CMD.pulp_cbc_path,
            mip=integral,
            msg=False,
            gapRel=limits.gap_fraction,
            gapAbs=0.0,
            threads=None,
            timeLimit=min(limits.wall_s, SECONDS_WITHOUT_LIMIT),
            maxNodes=limits.max_nodes,
            options=[f"randomSeed {seed}", f"randomCbcSeed {seed}", WITHOUT_HEURISTICS],
            warmStart=warm,
        )
        self.report = RunReport(termination=Termination.TIME_LIMIT, has_solution=False)

    def actualSolve(self, lp: Any, **kwargs: Any) -> int:  # noqa: N802 (PuLP's name)
        """Solve; raises RuntimeError when CBC calls the model unbounded or says nothing."""
        with tempfile.TemporaryDirectory() as folder:
            self.optionsDict["logPath"] = str(Path(folder) / "cbc.log")
            status: int = super().actualSolve(lp, **kwargs)
            log = Path(self.optionsDict["logPath"]).read_text()
        self.report = self._read(lp, log)
        return status

    def _read(self, lp: Any, log: str) -> RunReport:
        solved = lp.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
        end = self._end(lp, log)
        bound = _number(BOUND, log)
        if bound is None and end == Termination.OPTIMAL:
            bound = pulp.value(lp.objective)
        nodes = _number(NODES, log)
        return RunReport(
            termination=end,
            has_solution=solved,
            bound=None if end == Termination.INFEASIBLE else bound,
            nodes=0 if nodes is None else int(nodes),
        )

    @staticmethod
    def _end(lp: Any, log: str) -> Termination:
        found = RESULT.findall(log)
        result = found[-1] if found else ""
        if pulp.LpStatusInfeasible in (lp.status, lp.sol_status):
            return Termination.INFEASIBLE
        if lp.sol_status == pulp.LpSolutionUnbounded:
            raise RuntimeError("CBC calls the model unbounded")
        if "node" in result:
            return Termination.FEASIBLE
        if "time" in result:
            return Termination.TIME_LIMIT
        if lp.sol_status == pulp.LpSolutionOptimal:
            return Termination.OPTIMAL
        raise RuntimeError(f"CBC ended with {result or 'no result'!r}")


def _number(pattern: re.Pattern[str], log: str) -> float | None:
    found = pattern.findall(log)
    return float(found[-1]) if found else None
