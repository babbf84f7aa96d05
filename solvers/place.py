"""Placement: greedy first, CP-SAT where greedy fails or moves something; every answer passes the checker."""

from solvers.place_checker import check
from solvers.place_cpsat import place_cpsat
from solvers.place_greedy import place_greedy
from solvers.place_kinds import validate
from solvers.place_problem import Placement, PlaceProblem
from solvers.result import Result, Termination
from solvers.stop import Stop


def solve(problem: PlaceProblem, stop: Stop, seed: int) -> Result[Placement]:
    """A placement with few moves; `objective` and `bound` count GPUs that move.

    OPTIMAL: no placement moves fewer. INFEASIBLE: proved that there is none. FEASIBLE without a solution: the limits
    came before an answer. Raises ValueError on a malformed problem, RuntimeError when an answer breaks a rule.
    """
    validate(problem)
    greedy = place_greedy(problem)
    if greedy is not None and check(problem, greedy):
        greedy = None
    if greedy is not None and greedy.moves_gpus == 0:
        return _result(problem, Termination.OPTIMAL, greedy, 0)
    ended, exact, bound = place_cpsat(problem, stop, seed, greedy)
    best = exact if exact is not None else greedy
    if ended is Termination.INFEASIBLE and best is None:
        return Result(termination=Termination.INFEASIBLE, solution=None, objective=None, bound=None)
    return _result(problem, ended, best, bound)


def _result(problem: PlaceProblem, ended: Termination, best: Placement | None, bound: int | None) -> Result[Placement]:
    if best is None:
        return Result(termination=Termination.FEASIBLE, solution=None, objective=None, bound=None)
    broken = check(problem, best)
    if broken:
        raise RuntimeError("the placement breaks its rules: " + "; ".join(broken[:5]))
    return Result(
        termination=ended,
        solution=best,
        objective=float(best.moves_gpus),
        bound=None if bound is None else float(min(bound, best.moves_gpus)),
    )
