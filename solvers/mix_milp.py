"""Solves the mix problem: lexicographic MILP stages through PuLP, balanced flows, checked before it is returned."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvers.mix_balance import balance, capacity_rps
from solvers.mix_checker import check
from solvers.mix_model import MixModel, build
from solvers.mix_narrow import Narrowed, given_run, narrow, run_serve
from solvers.mix_problem import MixProblem, MixSolution
from solvers.mix_stages import (
    Stage,
    StagedSolve,
    best_effort_stages,
    cost_stage,
    gpus_stage,
    hold_copies,
    hold_purchases,
    serve_stages,
    shown_values,
    tidy_stage,
)
from solvers.mix_survive import add_survive_rows
from solvers.mix_validate import validate
from solvers.pulp_backend import PulpProgram
from solvers.result import Result, Termination
from solvers.stop import Stop

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
UNMET_ROUNDING = 1e-6  # fraction of a rate; smaller is the solver's tolerance, not demand


def solve(problem: MixProblem, stop: Stop, seed: int, solver: str = "highs") -> Result[MixSolution]:
    """The cheapest mix after the serve stages; `objective` and `bound` are its cost in USD per hour.

    The bound is valid for the capacity table in force, and, where demand may go unmet, for plans that serve at
    least as much. Raises ValueError on a malformed problem and RuntimeError when a solver's answer breaks a rule.
    """
    validate(problem)
    staged, bound = _run_stages(problem, stop, seed, solver)
    return _result(problem, staged, bound)


def solve_wide(problem: MixProblem, stop: Stop, seed: int, solver: str = "highs") -> Result[MixSolution]:
    """The same by the MILP over all copies at once, without staffings: slower, and the check of the other."""
    validate(problem)
    staged = _wide(problem, stop, seed, solver)
    for stage in serve_stages(staged.model):
        if not staged.run(stage):
            return _result(problem, staged, None)
        staged.keep(stage, staged.runs[-1].value)
    if staged.run(cost_stage(staged.model)):
        _run_after_cost(staged)
    return _result(problem, staged, _cost_bound(staged))


def _result(problem: MixProblem, staged: StagedSolve, bound: float | None) -> Result[MixSolution]:
    if staged.values is None:
        ended = Termination.TIME_LIMIT if staged.termination == Termination.FEASIBLE else staged.termination
        return Result(
            termination=ended, solution=None, objective=None, bound=bound, work=staged.nodes, notes=tuple(staged.notes)
        )
    solution = _solution(staged, staged.values)
    violations = check(problem, solution)
    if violations:
        raise RuntimeError("the solver's mix breaks its rules: " + "; ".join(violations[:5]))
    return Result(
        termination=staged.termination,
        solution=solution,
        objective=solution.cost_usd_per_hour,
        bound=None if bound is None else max(0.0, min(bound, solution.cost_usd_per_hour)),
        work=staged.nodes,
        notes=tuple(staged.notes),
    )


def _wide(problem: MixProblem, stop: Stop, seed: int, solver: str) -> StagedSolve:
    model = build(problem)
    add_survive_rows(model)
    return StagedSolve(model, PulpProgram(model.linear, solver), stop, seed)


def _run_stages(problem: MixProblem, stop: Stop, seed: int, solver: str) -> tuple[StagedSolve, float | None]:
    """Run all stages as far as the limits let; the bound is that of the cost stage."""
    if problem.allow_unmet:
        served = _serve_all(problem, stop, seed, solver)
        if served is not None:
            return served.solve, served.bound
    staged = _wide(problem, stop, seed, solver)
    if not run_serve(staged, {}):
        return staged, None
    narrowed = narrow(staged, cost_stage, solver)
    if isinstance(narrowed, Narrowed):
        if narrowed.solve.termination != Termination.CANCELLED:
            _run_after_cost(narrowed.solve)
        return narrowed.solve, narrowed.bound
    if narrowed is not None and staged.values is None:
        staged.termination = narrowed
        return staged, None
    if staged.run(cost_stage(staged.model)):
        _run_after_cost(staged)
    return staged, _cost_bound(staged)


def _serve_all(problem: MixProblem, stop: Stop, seed: int, solver: str) -> Narrowed | None:
    """Where nothing need go unmet, the serve stages are known; None if that was not found."""
    narrowed = narrow(_wide(replace(problem, allow_unmet=False), stop, seed, solver), cost_stage, solver)
    if not isinstance(narrowed, Narrowed):
        return None
    levels = sorted(set(problem.workload_priority[~problem.workload_best_effort].tolist()))
    narrowed.solve.runs[:0] = [given_run(Stage(name=f"serve_{level}", terms={}), 0.0) for level in levels]
    if narrowed.solve.termination != Termination.CANCELLED:
        _run_after_cost(narrowed.solve)
    return narrowed


def _run_after_cost(staged: StagedSolve) -> None:
    model = staged.model
    staged.keep(staged.runs[-1].stage, staged.runs[-1].value)
    hold_purchases(staged)
    for stage in [*best_effort_stages(model), gpus_stage(model)]:
        if not staged.run(stage):
            return
        staged.keep(stage, staged.runs[-1].value)
    hold_copies(staged)
    staged.run(tidy_stage(model))


def _cost_bound(staged: StagedSolve) -> float | None:
    for run in staged.runs:
        if run.stage.name == "cost":
            return run.outcome.bound
    return None


def _solution(staged: StagedSolve, values: FloatArray) -> MixSolution:
    model, problem = staged.model, staged.model.problem
    copies = np.array([_total(model.copies_terms(q), values) for q in range(len(model.bays))], dtype=np.int64)
    nodes = np.array([round(values[c]) for c in model.nodes], dtype=np.int64)
    paid = np.array([_total(model.paid_terms(p), values) for p in range(len(nodes))], dtype=np.int64)
    unmet = _unmet_rps(model, values)
    flow, note = balance(problem, copies, nodes, paid, unmet)
    if note:
        staged.notes.append(note)
        flow = _flow_rps(model, values, copies)
    served = problem.share.T @ flow
    left = np.maximum(0.0, problem.demand_rate_rps - served)
    return MixSolution(
        copies=copies,
        nodes=nodes,
        paid_gpus=paid,
        flow_rps=flow,
        unmet_rps=np.where(left > UNMET_ROUNDING * problem.demand_rate_rps, left, 0.0),
        copies_per_domain_max=_kappa(model, copies, values),
        cost_usd_per_hour=float(problem.pool_price_usd_per_gpu_hour @ paid),
        stage_values=shown_values(staged),
    )


def _total(terms: dict[int, float], values: FloatArray) -> int:
    return round(float(sum(coefficient * values[column] for column, coefficient in terms.items())))


def _unmet_rps(model: MixModel, values: FloatArray) -> FloatArray:
    fraction = np.array([values[c] if c >= 0 else 0.0 for c in model.unmet], dtype=np.float64)
    fraction[fraction < UNMET_ROUNDING] = 0.0
    return np.minimum(fraction, 1.0) * model.problem.demand_rate_rps


def _flow_rps(model: MixModel, values: FloatArray, copies: IntArray) -> FloatArray:
    """Flows of the model's own point; those of staffed demands, which it does not have, follow capacity."""
    problem = model.problem
    fraction = np.array([values[c] if c >= 0 else 0.0 for c in model.flow], dtype=np.float64)
    flow = np.clip(fraction, 0.0, 1.0) * np.where(fraction > 0, model.reduced.max_flow_rps, 0.0)
    staffed = np.isin(np.arange(len(copies)), list(model.staffed))
    capacity = np.where(staffed, capacity_rps(problem, copies), 0.0)
    for demand in np.flatnonzero(problem.share.T @ capacity > 0).tolist():
        own = problem.share[:, demand] * capacity
        flow += own / own.sum() * problem.demand_rate_rps[demand]
    return flow


def _kappa(model: MixModel, copies: IntArray, values: FloatArray) -> IntArray:
    kappa = np.zeros(len(copies), dtype=np.int64)
    for queue, column in model.kappa.items():
        if copies[queue] > 0:
            kappa[queue] = round(values[column])
    return kappa
