"""Solves a stage over staffings that can be part of a better mix than the best one known, instead of over all copies.

1. The linear relaxation of the whole model, tightened by `Σ weight · copies >= least cost of a staffing` for the
   weights that its own duals name, until none is violated: the bound of the decomposition, `floor`.
2. For every staffed demand, all staffings whose cost at those weights is within a margin of the least one. A mix
   that uses any other costs at least floor + margin, whatever else it does.
3. The MILP over these staffings and the rest of the model. Its dual bound and floor + margin bound every mix; where
   that is not enough, once more with a margin up to the best mix found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.linear_model import add_terms
from solvers.mix_model import MixModel, build
from solvers.mix_staffing import Cheap, Staffer, staffers, stands_alone
from solvers.mix_stages import Stage, StagedSolve, StageRun, serve_stages
from solvers.mix_survive import add_survive_rows
from solvers.pulp_backend import Limits, Outcome, PulpProgram
from solvers.result import Termination

FloatArray = NDArray[np.float64]
CUT_ROUNDS = 12
VIOLATED = 1e-6  # relative
FIRST_MARGIN = 0.02  # of the floor
STAFFINGS = (300, 1500)  # at most, per demand, in the first and the second round


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """`bound`: no mix does better. `weights`: demand → what a copy of each of its classes costs, shape (classes,)."""

    bound: float
    weights: dict[int, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowed:
    """The solve that goes on after the stage, and a lower bound on the stage's value over all mixes."""

    solve: StagedSolve
    bound: float | None


def narrow(wide: StagedSolve, stage_of: Callable[[MixModel], Stage], solver: str) -> Narrowed | Termination | None:
    """Run the stage over staffings, after the serve stages that `wide` has run.

    INFEASIBLE when the tightened relaxation has no point, so that no mix exists; None when nothing can be staffed or
    no mix was found this way, which proves nothing.
    """
    every = staffers(wide.model, ~_best_effort(wide.model))
    must = _must_serve(wide)
    found = {d: own for d, own in every.items() if must[d] and stands_alone(wide.model.problem, d)}
    floor = _floor(wide, stage_of(wide.model), every, set(found))
    if floor is None or isinstance(floor, Termination) or not found:
        return floor if isinstance(floor, Termination) else None
    best: Narrowed | None = None
    margin = FIRST_MARGIN * floor.bound
    for most in STAFFINGS:
        cheap = {d: s.cheap(floor.weights[d], margin, most) for d, s in found.items()}
        tried = _solve(wide, stage_of, solver, floor, found, cheap)
        if tried is None:
            break
        best = tried if best is None or tried.solve.runs[-1].value < best.solve.runs[-1].value else best
        best = Narrowed(solve=best.solve, bound=_larger(best.bound, tried.bound))
        value = best.solve.runs[-1].value
        if _closed(best, wide.stop.gap_fraction) or best.solve.termination == Termination.CANCELLED:
            break
        margin = value - floor.bound + VIOLATED * abs(value)
    return best if best is None else _said(best)


def run_serve(wide: StagedSolve, given: Mapping[str, float]) -> bool:
    """Run the serve stages, or keep the values `given` for them by name; False when the solve ends here."""
    for stage in serve_stages(wide.model):
        if stage.name in given:
            wide.runs.append(given_run(stage, given[stage.name]))
        else:
            tighten(wide, stage)
            if not wide.run(stage):
                return False
        wide.keep(stage, wide.runs[-1].value)
    return True


def tighten(wide: StagedSolve, stage: Stage) -> None:
    """Add cuts to the whole model until its relaxation, minimising the stage, violates none."""
    _floor(wide, stage, staffers(wide.model, ~_best_effort(wide.model)), set())


def _best_effort(model: MixModel) -> NDArray[np.bool_]:
    problem = model.problem
    return np.asarray(problem.workload_best_effort[problem.demand_workload], dtype=bool)


def _must_serve(wide: StagedSolve) -> NDArray[np.bool_]:
    """[D] demands of which nothing may stay unmet at this point."""
    limits = wide.program.upper_bounds()
    return np.array([column >= 0 and limits[column] <= 0.0 for column in wide.model.unmet], dtype=bool)


def _floor(wide: StagedSolve, stage: Stage, found: dict[int, Staffer], alone: set[int]) -> Floor | Termination | None:
    """Cuts serve every demand of `found`; the decomposition's bound adds up only those that stand alone."""
    best: Floor | None = None
    for _ in range(CUT_ROUNDS):
        outcome = wide.program.minimise_relaxed(stage.terms, Limits(wall_s=max(0.01, wide.wall_left_s())))
        if outcome.termination == Termination.INFEASIBLE:
            return Termination.INFEASIBLE
        if outcome.values is None or outcome.duals is None or outcome.objective is None:
            return best
        prices = np.array([-row.sign * outcome.duals[row.row] for row in wide.model.copy_rows])
        weights = {demand: np.maximum(0.0, own.taken @ prices) for demand, own in found.items()}
        lift, cuts = 0.0, 0
        for demand, staffer in found.items():
            least, now, cut = _cut(wide, staffer, weights[demand], outcome.values)
            if not np.isfinite(least) and demand in alone:
                return Termination.INFEASIBLE
            lift += least - now if demand in alone else 0.0
            cuts += cut
        if best is None or outcome.objective + lift > best.bound:
            best = Floor(bound=outcome.objective + lift, weights=weights)
        if cuts == 0:
            break
    return best


def _cut(wide: StagedSolve, staffer: Staffer, weights: FloatArray, values: FloatArray) -> tuple[float, float, bool]:
    """(least cost of a staffing, cost of the copies at this point, whether the point violated a cut: it is added)."""
    least, slope = staffer.cover_cut(weights)
    terms: dict[int, float] = {}
    for own, weight in zip(staffer.classes, weights.tolist(), strict=True):
        for queue in own.queues:
            add_terms(terms, wide.model.copies_terms(queue), weight)
    now = float(sum(value * values[column] for column, value in terms.items()))
    if not np.isfinite(least) or least <= 0:
        return least, now, False
    unmet = int(wide.model.unmet[staffer.demand])
    terms[unmet] = slope
    violated = now + slope * float(values[unmet]) < least * (1 - VIOLATED)
    if violated:
        wide.program.add_row({column: value / least for column, value in terms.items()}, ">=", 1.0)
    return least, now, violated


def _solve(
    wide: StagedSolve,
    stage_of: Callable[[MixModel], Stage],
    solver: str,
    floor: Floor,
    found: dict[int, Staffer],
    cheap: dict[int, Cheap],
) -> Narrowed | None:
    staffings = {d: [found[d].split(counts) for counts in own.counts] for d, own in cheap.items()}
    if not all(staffings.values()):
        return None
    model = build(wide.model.problem, staffings)
    add_survive_rows(model)
    solve = StagedSolve(model, PulpProgram(model.linear, solver), wide.stop, wide.seed, started_s=wide.started_s)
    _carry_serve(wide, solve)
    solve.run(stage_of(model))
    wide.nodes += solve.nodes
    if solve.values is None:
        return None
    solve.nodes = wide.nodes
    bounds = [floor.bound + own.margin for own in cheap.values()]
    dual = solve.runs[-1].outcome.bound
    return Narrowed(solve=solve, bound=floor.bound if dual is None else max(floor.bound, min(dual, *bounds)))


def _carry_serve(wide: StagedSolve, solve: StagedSolve) -> None:
    """The serve stages' values, and what was said of them, in the terms of the new model."""
    solve.termination, solve.notes = wide.termination, list(wide.notes)
    values = {run.stage.name: run for run in wide.runs}
    for stage in serve_stages(solve.model):
        run = values[stage.name]
        solve.keep(stage, run.value)
        solve.runs.append(StageRun(stage=stage, outcome=run.outcome, value=run.value))


def _larger(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _closed(best: Narrowed, gap_fraction: float) -> bool:
    value = best.solve.runs[-1].value
    return best.bound is not None and value - best.bound <= gap_fraction * abs(value) + 1e-9


def _said(best: Narrowed) -> Narrowed:
    """A solve that is optimal over its staffings but not proven over all is feasible, and says so."""
    if not _closed(best, best.solve.stop.gap_fraction) and best.solve.termination == Termination.OPTIMAL:
        best.solve.termination = Termination.FEASIBLE
        best.solve.notes.append("not all staffings were enumerated: the bound may be lower than it could be")
    return best


def given_run(stage: Stage, value: float) -> StageRun:
    """A stage whose value is known without running it."""
    outcome = Outcome(termination=Termination.OPTIMAL, values=None, objective=value, bound=value, nodes=0)
    return StageRun(stage=stage, outcome=outcome, value=value)
