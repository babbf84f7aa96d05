"""Exact placement with CP-SAT: counts of each kind on each node and NVLink domain, fewest moves, then fewest nodes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from solvers.place_indices import with_indices
from solvers.place_kinds import Kind, kinds_of, level_ids
from solvers.place_problem import Placement, PlaceProblem
from solvers.result import Termination
from solvers.stop import Stop

MOST_VARIABLES = 60_000


@dataclass(slots=True)
class _Model:
    """The CP-SAT model. `count[k, n]`: groups of kind k on node n (for kinds over several nodes: 0 or 1)."""

    problem: PlaceProblem
    kinds: list[Kind]
    cp: Any
    count: dict[tuple[int, int], Any] = field(default_factory=dict)
    in_domain: dict[tuple[int, int, int], Any] = field(default_factory=dict)
    racks: dict[tuple[int, int], Any] = field(default_factory=dict)
    used: dict[int, Any] = field(default_factory=dict)
    retained: list[Any] = field(default_factory=list)


def place_cpsat(
    problem: PlaceProblem, stop: Stop, seed: int, hint: Placement | None = None
) -> tuple[Termination, Placement | None, int | None]:
    """(how it ended, the placement, a proved lower bound on moved GPUs). FEASIBLE without a placement: not known.

    One worker and a deterministic limit: the same seed gives the same placement.
    """
    kinds = kinds_of(problem)
    if sum(len(k.nodes) for k in kinds) > MOST_VARIABLES:
        return Termination.FEASIBLE, None, None
    model = build(problem, kinds, range(len(problem.spread)), range(len(problem.caps)), range(len(problem.apart)))
    standing = sum(count * kind.gpus for kind in kinds for count in kind.standing.values())
    nodes_weight = 1
    moves_weight = len(problem.node_gpus) + 1
    model.cp.minimize(moves_weight * (standing - sum(model.retained)) + nodes_weight * sum(model.used.values()))
    if hint is not None:
        _hint(model, hint)
    status, solver = run(model.cp, stop, seed)
    if status == "infeasible":
        return Termination.INFEASIBLE, None, None
    if status == "unknown":
        return Termination.FEASIBLE, None, None
    placement = with_indices(problem, _assigned(model, solver))
    bound = max(0, int(solver.best_objective_bound) // moves_weight)
    if placement is None:
        return Termination.FEASIBLE, None, bound
    return (Termination.OPTIMAL if status == "optimal" else Termination.FEASIBLE), placement, bound


def feasible(
    problem: PlaceProblem,
    kinds: list[Kind],
    rules: tuple[Collection[int], Collection[int], Collection[int]],
    stop: Stop,
) -> bool | None:
    """Whether these kinds fit together under these spread, cap and apart rules; None when the limit came first."""
    model = build(problem, kinds, *rules)
    status, _ = run(model.cp, stop, 0)
    return None if status == "unknown" else status != "infeasible"


def run(cp: Any, stop: Stop, seed: int) -> tuple[str, Any]:
    """(optimal | feasible | infeasible | unknown, the solver)."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed % (2**31)
    solver.parameters.max_deterministic_time = stop.max_deterministic_s
    solver.parameters.max_time_in_seconds = stop.wall_limit_s
    status = solver.solve(cp)
    words = {
        cp_model.OPTIMAL: "optimal",
        cp_model.FEASIBLE: "feasible",
        cp_model.INFEASIBLE: "infeasible",
        cp_model.UNKNOWN: "unknown",
    }
    if status not in words:
        raise RuntimeError(f"CP-SAT calls the placement model invalid: {cp.validate()}")
    return words[status], solver


def build(
    problem: PlaceProblem,
    kinds: list[Kind],
    spread: Collection[int],
    caps: Collection[int],
    apart: Collection[int],
) -> _Model:
    """The model of some kinds under some of the rules (their positions in the problem)."""
    from ortools.sat.python import cp_model

    model = _Model(problem, kinds, cp_model.CpModel())
    _count_variables(model)
    _node_rows(model)
    _rules(model, spread, caps, apart)
    return model


def _count_variables(model: _Model) -> None:
    problem, cp = model.problem, model.cp
    for k, kind in enumerate(model.kinds):
        total = len(kind.groups)
        for node in kind.nodes:
            most = 1 if kind.nodes_each > 1 else min(total, int(problem.node_gpus[node]) // kind.gpus)
            model.count[k, node] = cp.new_int_var(0, most, "")
        mine = [model.count[k, node] for node in kind.nodes]
        if not mine:
            cp.add_bool_or([])
            continue
        cp.add(sum(mine) == total * kind.nodes_each)
        if kind.nodes_each > 1:
            _rack_rows(model, k, kind)
        for node, standing in kind.standing.items():
            if (k, node) in model.count and kind.nodes_each == 1:
                kept = cp.new_int_var(0, standing, "")
                cp.add(kept <= model.count[k, node])
                model.retained.append(kept * kind.gpus)


def _rack_rows(model: _Model, k: int, kind: Kind) -> None:
    """A group over several nodes takes them in one rack."""
    by_rack: dict[int, list[int]] = {}
    for node in kind.nodes:
        by_rack.setdefault(int(model.problem.node_rack[node]), []).append(node)
    for rack, nodes in by_rack.items():
        groups = model.cp.new_int_var(0, len(kind.groups), "")
        model.racks[k, rack] = groups
        model.cp.add(sum(model.count[k, n] for n in nodes) == kind.nodes_each * groups)


def _node_rows(model: _Model) -> None:
    problem, cp = model.problem, model.cp
    standing_on: dict[int, list[int]] = {}
    for k, node in model.count:
        standing_on.setdefault(node, []).append(k)
    for node, kinds in standing_on.items():
        gpus = int(problem.node_gpus[node])
        load = [(gpus if model.kinds[k].nodes_each > 1 else model.kinds[k].gpus) * model.count[k, node] for k in kinds]
        used = cp.new_bool_var("")
        model.used[node] = used
        cp.add(sum(load) <= gpus * used)
        _domain_rows(model, node, kinds)
    for pool, most in enumerate(problem.max_nodes_used.tolist()):
        cp.add(sum(u for n, u in model.used.items() if problem.node_pool[n] == pool) <= most)


def _domain_rows(model: _Model, node: int, kinds: Sequence[int]) -> None:
    """Groups that stay in one NVLink domain are counted domain by domain, where a node has several."""
    problem, cp = model.problem, model.cp
    gpus, width = int(problem.node_gpus[node]), int(problem.node_domain_gpus[node])
    bound = [k for k in kinds if model.kinds[k].one_domain and model.kinds[k].gpus > 1]
    if width >= gpus or not bound:
        return
    widths = [min(width, gpus - start) for start in range(0, gpus, width)]
    for k in bound:
        parts = [cp.new_int_var(0, w // model.kinds[k].gpus, "") for w in widths]
        cp.add(sum(parts) == model.count[k, node])
        for d, part in enumerate(parts):
            model.in_domain[k, node, d] = part
    for d, w in enumerate(widths):
        cp.add(sum(model.kinds[k].gpus * model.in_domain[k, node, d] for k in bound) <= w)


def _rules(model: _Model, spread: Collection[int], caps: Collection[int], apart: Collection[int]) -> None:
    for position in sorted(spread):
        rule = model.problem.spread[position]
        by_domain = _by_domain(model, rule.groups, rule.level)
        reached = []
        for terms in by_domain.values():
            present = model.cp.new_bool_var("")
            model.cp.add(present <= sum(terms))
            reached.append(present)
        model.cp.add(sum(reached) >= rule.min_domains)
    for position in sorted(caps):
        cap = model.problem.caps[position]
        for domain, terms in _by_domain(model, cap.groups, cap.level, whole=True).items():
            del domain
            model.cp.add(sum(terms) <= cap.max_per_domain)
    for position in sorted(apart):
        _apart_rows(model, position)


def _apart_rows(model: _Model, position: int) -> None:
    rule = model.problem.apart[position]
    first, second = _by_domain(model, rule.first, rule.level), _by_domain(model, rule.second, rule.level)
    for domain in sorted(set(first) & set(second)):
        here = model.cp.new_bool_var("")
        most = len(rule.first) * 64 + len(rule.second) * 64
        model.cp.add(sum(first[domain]) <= most * here)
        model.cp.add(sum(second[domain]) <= most * (1 - here))


def _by_domain(model: _Model, groups: Sequence[int], level: int, *, whole: bool = False) -> dict[int, list[Any]]:
    """Counts of the rule's kinds by domain of the level; `whole`: a group over several nodes of a rack counts once."""
    ids = level_ids(model.problem, level)
    wanted = set(groups)
    found: dict[int, list[Any]] = {}
    for k, kind in enumerate(model.kinds):
        if not wanted.intersection(kind.groups):
            continue
        if whole and kind.nodes_each > 1 and level > 0:
            for node in kind.nodes:
                rack = int(model.problem.node_rack[node])
                terms = found.setdefault(int(ids[node]), [])
                if not any(term is model.racks[k, rack] for term in terms):
                    terms.append(model.racks[k, rack])
            continue
        for node in kind.nodes:
            found.setdefault(int(ids[node]), []).append(model.count[k, node])
    return found


def _hint(model: _Model, hint: Placement) -> None:
    for k, kind in enumerate(model.kinds):
        counts: dict[int, int] = {}
        for group in kind.groups:
            for node in hint.group_nodes[group]:
                counts[node] = counts.get(node, 0) + 1
        for node in kind.nodes:
            model.cp.add_hint(model.count[k, node], counts.get(node, 0))


def _assigned(model: _Model, solver: Any) -> list[tuple[int, ...]]:
    """Nodes of every group: those that run on a node stay where the counts allow it, the others fill up in order."""
    assigned: list[tuple[int, ...]] = [()] * len(model.problem.group_gpus)
    for k, kind in enumerate(model.kinds):
        left = {node: int(solver.value(model.count[k, node])) for node in kind.nodes}
        if kind.nodes_each > 1:
            _assign_whole(model.problem, kind, left, assigned)
            continue
        waiting = []
        for group in kind.groups:
            node = int(model.problem.current_node[group])
            if left.get(node, 0) > 0:
                assigned[group] = (node,)
                left[node] -= 1
            else:
                waiting.append(group)
        places = [node for node in kind.nodes for _ in range(left[node])]
        for group, node in zip(waiting, places, strict=True):
            assigned[group] = (node,)
    return assigned


def _assign_whole(problem: PlaceProblem, kind: Kind, left: dict[int, int], assigned: list[tuple[int, ...]]) -> None:
    by_rack: dict[int, list[int]] = {}
    for node in kind.nodes:
        if left[node]:
            by_rack.setdefault(int(problem.node_rack[node]), []).append(node)
    blocks = [
        tuple(nodes[start : start + kind.nodes_each])
        for nodes in by_rack.values()
        for start in range(0, len(nodes), kind.nodes_each)
    ]
    for group, block in zip(kind.groups, blocks, strict=True):
        assigned[group] = block
