"""Exact placement with CP-SAT: fewest moved GPUs, then fewest nodes, then fewest partly full nodes."""

from typing import Any

from solvers.place_kinds import Kind
from solvers.place_model import Model, build, count_variables, hint, minimise
from solvers.place_numbering import numbered
from solvers.place_problem import Placement, PlaceProblem
from solvers.result import Result, Termination
from solvers.stop import Stop

# Where CP-SAT gives answers in seconds; from twice this on it rarely leaves its presolve.
MOST_COUNTS = 20_000


def place_cpsat(
    problem: PlaceProblem, stop: Stop, seed: int, start: Placement | None = None, enough_nodes: int = 0
) -> Result[Placement]:
    """The best placement found, `objective` and `bound` in moved GPUs; without one, INFEASIBLE only if that is proved.

    One worker and a deterministic limit: the same seed gives the same placement unless the wall limit fires. OPTIMAL is
    said of all three goals together. A placement that moves nothing onto at most `enough_nodes` ends the search early.
    Raises RuntimeError when a count has no GPU indices (a fault of the model).
    """
    if count_variables(problem) > MOST_COUNTS:
        note = f"more than {MOST_COUNTS} counts: too large for CP-SAT"
        return Result(termination=Termination.TIME_LIMIT, solution=None, objective=None, bound=0.0, notes=(note,))
    model = build(problem)
    move_weight, node_weight = minimise(model)
    if start is not None:
        hint(model, start)
    status, solver = _run(model.cp, stop, seed, good_enough=node_weight * (enough_nodes + 1) - 1)
    bound = None if status is Termination.INFEASIBLE else float(max(0, int(solver.best_objective_bound) // move_weight))
    work = int(solver.num_branches)
    if status not in (Termination.OPTIMAL, Termination.FEASIBLE):
        return Result(termination=status, solution=None, objective=None, bound=bound, work=work)
    found = numbered(problem, _group_nodes(model, solver))
    if found is None:
        raise RuntimeError("CP-SAT's counts fit no GPU indices: the placement model is at fault")
    return Result(termination=status, solution=found, objective=float(found.moves_gpus), bound=bound, work=work)


def fits(problem: PlaceProblem, stop: Stop) -> bool | None:
    """Whether any placement exists; None when the limits come first. The caller minds the size."""
    status, _ = _run(build(problem).cp, stop, 0, good_enough=0)
    if status is Termination.INFEASIBLE:
        return False
    return True if status in (Termination.OPTIMAL, Termination.FEASIBLE) else None


def _run(cp: Any, stop: Stop, seed: int, good_enough: int) -> tuple[Termination, Any]:
    """(OPTIMAL, FEASIBLE or INFEASIBLE as proved; TIME_LIMIT or CANCELLED where nothing is known, the solver)."""
    from ortools.sat.python import cp_model

    class _Cancel(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]
        def on_solution_callback(self) -> None:
            if stop.cancelled() or self.objective_value <= good_enough:
                self.stop_search()

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed % (2**31)
    solver.parameters.max_deterministic_time = stop.max_deterministic_s
    solver.parameters.max_time_in_seconds = stop.wall_limit_s
    solver.parameters.catch_sigint_signal = False  # an interrupt is the caller's to hear
    status = solver.solve(cp, _Cancel())
    if status == cp_model.MODEL_INVALID:
        raise RuntimeError(f"CP-SAT calls the placement model invalid: {cp.validate()}")
    known = {
        cp_model.OPTIMAL: Termination.OPTIMAL,
        cp_model.FEASIBLE: Termination.FEASIBLE,
        cp_model.INFEASIBLE: Termination.INFEASIBLE,
    }
    return known.get(status, Termination.CANCELLED if stop.cancelled() else Termination.TIME_LIMIT), solver


def _group_nodes(model: Model, solver: Any) -> list[tuple[int, ...]]:
    """Nodes of every group: those that run on a node stay where the counts allow it, the others fill up in order."""
    assigned: list[tuple[int, ...]] = [()] * len(model.problem.group_gpus)
    for k, kind in enumerate(model.kinds):
        counts = {node: int(solver.value(model.count[k, node])) for node in model.nodes[k]}
        places = _blocks(model.problem, kind, counts) if kind.nodes_each > 1 else _places(counts)
        waiting = []
        for group in kind.groups:
            current = int(model.problem.current_node[group])
            stays = next((place for place in places if current in place), None) if current >= 0 else None
            if stays is None:
                waiting.append(group)
            else:
                assigned[group] = stays
                places.remove(stays)
        for group, place in zip(waiting, places, strict=True):
            assigned[group] = place
    return assigned


def _places(counts: dict[int, int]) -> list[tuple[int, ...]]:
    return [(node,) for node, count in counts.items() for _ in range(count)]


def _blocks(problem: PlaceProblem, kind: Kind, counts: dict[int, int]) -> list[tuple[int, ...]]:
    """Whole nodes cut into groups, rack by rack; nodes where groups run now go to different groups."""
    by_rack: dict[int, list[int]] = {}
    for node, count in counts.items():
        if count:
            by_rack.setdefault(int(problem.node_rack[node]), []).append(node)
    found = []
    for nodes in by_rack.values():
        # Dealt like cards, those with a running group first: one to each block before any gets a second.
        dealt = sorted(nodes, key=lambda node: (node not in kind.standing, node))
        groups = len(nodes) // kind.nodes_each
        found += [tuple(sorted(dealt[start::groups])) for start in range(groups)]
    return found
