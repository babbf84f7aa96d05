"""Solves the mix problem: lexicographic MILP stages through PuLP, balanced flows, checked before it is returned."""

import numpy as np
from numpy.typing import NDArray

from solvers.mix_balance import balance
from solvers.mix_checker import check
from solvers.mix_model import MixModel, build
from solvers.mix_problem import MixProblem, MixSolution
from solvers.mix_stages import (
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
    model = build(problem)
    add_survive_rows(model)
    staged = StagedSolve(model, PulpProgram(model.linear, solver), stop, seed)
    bound = _run_stages(staged)
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
        bound=None if bound is None else min(bound, solution.cost_usd_per_hour),
        work=staged.nodes,
        notes=tuple(staged.notes),
    )


def _run_stages(staged: StagedSolve) -> float | None:
    """Run all stages as far as the limits let; returns the bound of the cost stage."""
    model = staged.model
    for stage in serve_stages(model):
        if not staged.run(stage):
            return None
        staged.keep(stage, staged.runs[-1].value)
    cost = cost_stage(model)
    if not staged.run(cost):
        return _cost_bound(staged)
    staged.keep(cost, staged.runs[-1].value)
    hold_purchases(staged)
    for stage in [*best_effort_stages(model), gpus_stage(model)]:
        if not staged.run(stage):
            return _cost_bound(staged)
        staged.keep(stage, staged.runs[-1].value)
    hold_copies(staged)
    staged.run(tidy_stage(model))
    return _cost_bound(staged)


def _cost_bound(staged: StagedSolve) -> float | None:
    for run in staged.runs:
        if run.stage.name == "cost":
            return None if run.outcome.bound is None else max(0.0, run.outcome.bound)
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
        flow = _flow_rps(model, values)
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
    return round(sum(coefficient * values[column] for column, coefficient in terms.items()))


def _unmet_rps(model: MixModel, values: FloatArray) -> FloatArray:
    fraction = np.array([values[c] if c >= 0 else 0.0 for c in model.unmet], dtype=np.float64)
    fraction[fraction < UNMET_ROUNDING] = 0.0
    return np.minimum(fraction, 1.0) * model.problem.demand_rate_rps


def _flow_rps(model: MixModel, values: FloatArray) -> FloatArray:
    fraction = np.array([values[c] if c >= 0 else 0.0 for c in model.flow], dtype=np.float64)
    return np.clip(fraction, 0.0, 1.0) * np.where(fraction > 0, model.reduced.max_flow_rps, 0.0)


def _kappa(model: MixModel, copies: IntArray, values: FloatArray) -> IntArray:
    kappa = np.zeros(len(copies), dtype=np.int64)
    for queue, column in model.kappa.items():
        if copies[queue] > 0:
            kappa[queue] = round(values[column])
    return kappa
