"""The lexicographic stages of the mix problem, run one after the other on one model (F7)."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solvers.linear_model import add_terms
from solvers.mix_model import MixModel, Terms
from solvers.pulp_backend import Limits, Outcome, PulpProgram
from solvers.result import Termination
from solvers.stop import Stop

FloatArray = NDArray[np.float64]
FIX_TOLERANCE = 1e-6  # relative, on the value at which a stage is fixed
NOTHING_UNMET = 1e-7  # fraction of a rate
SMALLEST_VALUE = 1e-9
TIE_BREAK_NODES = 200
TIE_BREAK_GAP_FRACTION = 1e-3
WORST_LAST = (Termination.OPTIMAL, Termination.FEASIBLE, Termination.TIME_LIMIT, Termination.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`terms` are minimised; the value shown is `shown · Σ terms + offset`. A tie-break proves nothing."""

    name: str
    terms: Terms
    shown: float = 1.0
    offset: float = 0.0
    tie_break: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """A stage that was run, with the value that the later stages keep."""

    stage: Stage
    outcome: Outcome
    value: float


@dataclass(slots=True)
class StagedSolve:
    """Runs stages on one program; `values` is the best point so far, None while there is none."""

    model: MixModel
    program: PulpProgram
    stop: Stop
    seed: int
    values: FloatArray | None = None
    runs: list[StageRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    termination: Termination = Termination.OPTIMAL
    nodes: int = 0
    started_s: float = field(default_factory=time.monotonic)

    def run(self, stage: Stage) -> bool:
        """Run a stage from the best point so far and keep its value; False when the solve ends here."""
        if self._ended(stage):
            return False
        outcome = self.program.minimise(stage.terms, self._limits(stage), self.values)
        self.nodes += outcome.nodes
        self._note(stage, outcome)
        if outcome.values is not None:
            self.values = outcome.values
        if self.values is None:
            return False
        self.runs.append(StageRun(stage=stage, outcome=outcome, value=_value(stage.terms, self.values)))
        return outcome.termination != Termination.CANCELLED

    def keep(self, stage: Stage, value: float) -> None:
        """Later stages do no worse than `value` in this one."""
        if value <= NOTHING_UNMET and stage.name.startswith("serve"):
            for column in stage.terms:
                self.program.set_bounds(column, 0.0, 0.0)
            return
        scale = max((abs(coefficient) for coefficient in stage.terms.values()), default=0.0)
        if scale <= 0:
            return
        scaled = {column: coefficient / scale for column, coefficient in stage.terms.items()}
        self.program.add_row(scaled, "<=", value / scale + FIX_TOLERANCE * abs(value / scale))

    def _ended(self, stage: Stage) -> bool:
        if self.stop.cancelled():
            self._worsen(Termination.CANCELLED)
            self.notes.append(f"cancelled before stage {stage.name}")
        elif self.wall_left_s() <= 0:
            self._worsen(Termination.TIME_LIMIT)
            self.notes.append(f"the wall limit ended the solve before stage {stage.name}: not reproducible")
        else:
            return False
        return True

    def wall_left_s(self) -> float:
        """Seconds until the wall limit."""
        return self.stop.wall_limit_s - (time.monotonic() - self.started_s)

    def _limits(self, stage: Stage) -> Limits:
        gap, nodes = self.stop.gap_fraction, self.stop.max_nodes
        if stage.tie_break:
            gap, nodes = max(gap, TIE_BREAK_GAP_FRACTION), min(nodes, TIE_BREAK_NODES)
        return Limits(
            gap_fraction=gap,
            max_nodes=nodes,
            wall_s=self.wall_left_s(),
            seed=self.seed,
            cancelled=self.stop.cancelled,
        )

    def _note(self, stage: Stage, outcome: Outcome) -> None:
        if outcome.termination == Termination.INFEASIBLE:
            if self.values is not None:
                raise RuntimeError(f"stage {stage.name} is called infeasible at the point of the stage before it")
            self.termination = Termination.INFEASIBLE
            return
        if outcome.termination == Termination.TIME_LIMIT:
            self.notes.append(f"the wall limit ended stage {stage.name}: not reproducible")
        elif outcome.termination == Termination.FEASIBLE and not stage.tie_break:
            self.notes.append(f"the node limit ended stage {stage.name}")
        if not stage.tie_break or outcome.termination == Termination.CANCELLED:
            self._worsen(outcome.termination)

    def _worsen(self, termination: Termination) -> None:
        self.termination = max(self.termination, termination, key=WORST_LAST.index)


def serve_stages(model: MixModel) -> list[Stage]:
    """One stage a priority level, the most important first: Σ unmet fraction of its workloads."""
    problem = model.problem
    if not problem.allow_unmet:
        return []
    levels = sorted(set(problem.workload_priority[~problem.workload_best_effort].tolist()))
    return [Stage(name=f"serve_{level}", terms=_unmet_terms(model, level)) for level in levels]


def _unmet_terms(model: MixModel, level: int) -> Terms:
    problem = model.problem
    rates = np.bincount(problem.demand_workload, problem.demand_rate_rps, minlength=len(problem.workload_priority))
    counted = (problem.workload_priority == level) & ~problem.workload_best_effort
    terms: Terms = {}
    for demand in np.flatnonzero(counted[problem.demand_workload] & (model.unmet >= 0)).tolist():
        weight = problem.demand_rate_rps[demand] / rates[problem.demand_workload[demand]]
        terms[int(model.unmet[demand])] = float(weight)
    return terms


def cost_stage(model: MixModel) -> Stage:
    """Σ price · paid, USD per hour."""
    terms: Terms = {}
    for pool, price in enumerate(model.problem.pool_price_usd_per_gpu_hour.tolist()):
        if price > 0:
            add_terms(terms, model.paid_terms(pool), price)
    return Stage(name="cost", terms=terms)


def best_effort_stages(model: MixModel) -> list[Stage]:
    """Tokens/s that the best-effort workloads get, as large as it can be; no stage when there are none."""
    problem = model.problem
    served = problem.workload_best_effort[problem.demand_workload] & (model.unmet >= 0)
    tokens = problem.demand_rate_rps * problem.workload_tokens_per_request[problem.demand_workload]
    terms = {int(model.unmet[d]): float(tokens[d]) for d in np.flatnonzero(served).tolist()}
    if not terms:
        return []
    return [Stage(name="best_effort", terms=terms, shown=-1.0, offset=float(tokens[served].sum()))]


def gpus_stage(model: MixModel) -> Stage:
    """GPUs that copies take: the tie-break."""
    terms: Terms = {}
    for queue, gpus in enumerate(model.problem.queue_gpus_per_copy.tolist()):
        add_terms(terms, model.copies_terms(queue), float(gpus))
    return Stage(name="gpus_used", terms=terms, tie_break=True)


def tidy_stage(model: MixModel) -> Stage:
    """With copies fixed: fewest nodes and paid GPUs, and the loosest limit of copies per domain."""
    terms: Terms = {int(column): 1.0 for column in model.nodes}
    terms.update({int(column): 1.0 for column in model.paid if column >= 0})
    terms.update(dict.fromkeys(model.kappa.values(), -1.0))
    return Stage(name="tidy", terms=terms, tie_break=True)


def hold_purchases(solve: StagedSolve) -> None:
    """Later stages pay for no more nodes or GPUs of any pool that has a price: best effort never buys one."""
    model, values = solve.model, solve.values
    if values is None:
        raise ValueError("there is no mix whose purchases could be held")
    for pool in np.flatnonzero(model.problem.pool_price_usd_per_gpu_hour > 0).tolist():
        for column in (int(model.nodes[pool]), int(model.paid[pool])):
            if column >= 0:
                solve.program.set_bounds(column, 0.0, float(values[column]))


def hold_copies(solve: StagedSolve) -> None:
    """Later stages keep every copy where it is."""
    if solve.values is None:
        raise ValueError("there is no mix whose copies could be held")
    columns = [column for bays in solve.model.bays for bay in bays for column in (bay.choose, bay.count) if column >= 0]
    for column in columns + solve.model.staff_columns:
        solve.program.set_bounds(column, float(solve.values[column]), float(solve.values[column]))


def shown_values(solve: StagedSolve) -> tuple[tuple[str, float], ...]:
    """(name, value at the final point) of every stage that was run, in order; the tidying one is not shown."""
    if solve.values is None:
        return ()
    return tuple(
        (run.stage.name, run.stage.shown * _value(run.stage.terms, solve.values) + run.stage.offset)
        for run in solve.runs
        if run.stage.name != "tidy"
    )


def _value(terms: Terms, values: FloatArray) -> float:
    value = float(sum(coefficient * values[column] for column, coefficient in terms.items()))
    return 0.0 if abs(value) < SMALLEST_VALUE else value
