"""Placement: greedy first, CP-SAT where greedy is not known to be the best; every answer passes the checker."""

from dataclasses import replace

import numpy as np

from solvers.place_bounds import contradiction, fewest_by_pool, fewest_nodes
from solvers.place_checker import check
from solvers.place_cpsat import place_cpsat
from solvers.place_greedy import place_greedy
from solvers.place_numbering import cost
from solvers.place_problem import Placement, PlaceProblem
from solvers.place_validate import validate
from solvers.result import Result, Termination
from solvers.stop import Stop


def solve(problem: PlaceProblem, stop: Stop, seed: int) -> Result[Placement]:
    """The best placement found; `objective` and `bound` count GPUs that move.

    OPTIMAL: no placement moves fewer GPUs, and none of those uses fewer nodes. FEASIBLE: it holds, better ones may
    exist. INFEASIBLE: proved that there is none. TIME_LIMIT or CANCELLED: the limits came before any answer.
    Raises ValueError on a malformed problem, RuntimeError when an answer breaks a rule.
    """
    validate(problem)
    why = contradiction(problem)
    if why is not None:
        return Result(termination=Termination.INFEASIBLE, solution=None, objective=None, bound=None)
    least = fewest_nodes(problem)
    greedy = _checked(problem, _greedy(problem, least))
    if greedy is not None and greedy.moves_gpus == 0 and int(greedy.nodes_used.sum()) == least:
        return _found(Termination.OPTIMAL, greedy, 0.0, 0, ("greedy",))
    if stop.cancelled():
        # Greedy takes milliseconds, so even a cancelled solve has its answer; a proof it has not.
        return _found(Termination.CANCELLED, greedy, 0.0, 0, ("greedy",)) if greedy is not None else _nothing()
    exact = place_cpsat(problem, stop, seed, greedy, enough_nodes=least)
    if exact.termination is Termination.INFEASIBLE and greedy is not None:
        raise RuntimeError("CP-SAT denies a placement that the checker passed")
    better = _checked(problem, exact.solution)
    if better is not None and (greedy is None or cost(problem, better) <= cost(problem, greedy)):
        proved = exact.bound is not None and better.moves_gpus <= exact.bound and better.nodes_used.sum() == least
        ended = Termination.OPTIMAL if proved else exact.termination
        return _found(ended, better, exact.bound, exact.work, ("CP-SAT", *exact.notes))
    if greedy is not None:
        return _found(Termination.FEASIBLE, greedy, exact.bound, exact.work, ("greedy", *exact.notes))
    return exact


def _greedy(problem: PlaceProblem, least: int) -> Placement | None:
    """Greedy; and once more on no more nodes than any placement needs, where that alone is still to be won."""
    found = place_greedy(problem)
    by_pool = fewest_by_pool(problem)
    if found is None or found.moves_gpus > 0 or int(found.nodes_used.sum()) == least or sum(by_pool) < least:
        return found
    most = np.minimum(problem.max_nodes_used, np.array(by_pool, dtype=np.int64))
    tight = place_greedy(replace(problem, max_nodes_used=most))
    return tight if tight is not None and cost(problem, tight) < cost(problem, found) else found


def _nothing() -> Result[Placement]:
    return Result(termination=Termination.CANCELLED, solution=None, objective=None, bound=0.0)


def _checked(problem: PlaceProblem, placement: Placement | None) -> Placement | None:
    broken = [] if placement is None else check(problem, placement)
    if broken:
        raise RuntimeError("a placement breaks its rules: " + "; ".join(broken[:5]))
    return placement


def _found(
    ended: Termination, placement: Placement, bound: float | None, work: int, notes: tuple[str, ...]
) -> Result[Placement]:
    objective = float(placement.moves_gpus)
    return Result(
        termination=ended,
        solution=placement,
        objective=objective,
        bound=None if bound is None else min(bound, objective),
        work=work,
        notes=notes,
    )
