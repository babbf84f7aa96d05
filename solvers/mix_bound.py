"""A proved lower bound on the cost of every plan of a mix problem.

Given a problem whose capacities no dispatcher can beat and whose rates are what must be served at least, the bound
holds for every plan of the option space (F0); given the capacity table in force, for that table.
"""

from solvers.mix_model import build
from solvers.mix_narrow import Narrowed, narrow, run_serve
from solvers.mix_problem import MixProblem, MixSolution
from solvers.mix_stages import StagedSolve, cost_stage
from solvers.mix_survive import add_survive_rows
from solvers.mix_validate import validate
from solvers.pulp_backend import PulpProgram
from solvers.result import Result, Termination
from solvers.stop import Stop


def bound(
    problem: MixProblem, stop: Stop, seed: int, serve_values: tuple[tuple[str, float], ...] = ()
) -> Result[MixSolution]:
    """The dual bound of the cost stage in `bound`, USD per hour; no solution is returned.

    `objective` is the cost of the best mix found for the problem as given (None if none was): how far the bound
    itself could still rise. Where demand may go unmet, `serve_values` are the serve stages of the plan that is
    compared (its `stage_values`), and the bound reads: no plan that serves at least as much costs less. Without
    them it speaks of plans that serve as much as this problem can. Raises ValueError on a malformed problem.
    """
    validate(problem)
    model = build(problem)
    add_survive_rows(model)
    staged = StagedSolve(model, PulpProgram(model.linear, "highs"), stop, seed)
    proved = None
    if run_serve(staged, dict(serve_values)):
        staged, proved = _cost(staged)
    run = staged.runs[-1] if staged.runs and staged.runs[-1].stage.name == "cost" else None
    ended = staged.termination
    if run is None and ended == Termination.FEASIBLE:
        ended = Termination.TIME_LIMIT
    return Result(
        termination=ended,
        solution=None,
        objective=None if run is None else run.value,
        bound=None if run is None or proved is None else max(0.0, min(proved, run.value)),
        work=staged.nodes,
        notes=tuple(staged.notes),
    )


def _cost(staged: StagedSolve) -> tuple[StagedSolve, float | None]:
    """The solve that ran the cost stage and the bound it proved."""
    narrowed = narrow(staged, cost_stage, "highs")
    if isinstance(narrowed, Narrowed):
        return narrowed.solve, narrowed.bound
    if narrowed is not None and staged.values is None:
        staged.termination = narrowed
        return staged, None
    staged.run(cost_stage(staged.model))
    return staged, staged.runs[-1].outcome.bound if staged.runs else None
