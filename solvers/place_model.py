"""The placement problem as a CP-SAT model: how many groups of each kind stand on each node and domain."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from solvers.place_kinds import Kind, kinds_of, level_ids
from solvers.place_problem import Placement, PlaceProblem
from solvers.place_state import usable_nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """`count[k, n]`: groups of kind k on node n (0 or 1 where a group takes whole nodes; `in_rack[k, r]`: such groups).

    `kept[k, n]`: groups of kind k that stay on n. `used[n]`, `full[n]`: node n is in use, is full.
    """

    problem: PlaceProblem
    kinds: tuple[Kind, ...]
    nodes: tuple[list[int], ...]
    cp: Any
    count: dict[tuple[int, int], Any] = field(default_factory=dict)
    in_rack: dict[tuple[int, int], Any] = field(default_factory=dict)
    kept: dict[tuple[int, int], Any] = field(default_factory=dict)
    used: dict[int, Any] = field(default_factory=dict)
    full: dict[int, Any] = field(default_factory=dict)


def count_variables(problem: PlaceProblem) -> int:
    """How many counts the model would have: what decides whether it can be solved in seconds."""
    return sum(len(usable_nodes(problem, kind)) for kind in kinds_of(problem))


def build(problem: PlaceProblem) -> Model:
    """The model, without an objective."""
    from ortools.sat.python import cp_model

    kinds = tuple(kinds_of(problem))
    nodes = tuple(usable_nodes(problem, kind) for kind in kinds)
    model = Model(problem=problem, kinds=kinds, nodes=nodes, cp=cp_model.CpModel())
    for k, kind in enumerate(kinds):
        _counts(model, k)
        if kind.nodes_each > 1:
            _racks(model, k)
        _kept(model, k)
    _nodes(model)
    _rules(model)
    return model


def minimise(model: Model) -> tuple[int, int]:
    """Set the objective: moved GPUs, then nodes in use, then nodes partly full. Returns the first two weights."""
    nodes = len(model.problem.node_gpus)
    node_weight = nodes + 1
    move_weight = node_weight * (nodes + 1)
    standing = sum(count * kind.gpus for kind in model.kinds for count in kind.standing.values())
    stays = sum(model.kinds[k].gpus * kept for (k, _), kept in model.kept.items())
    partly = sum(model.used.values()) - sum(model.full.values())
    model.cp.minimize(move_weight * (standing - stays) + node_weight * sum(model.used.values()) + partly)
    return move_weight, node_weight


def hint(model: Model, placement: Placement) -> None:
    """Start from a placement."""
    counts: dict[tuple[int, int], int] = {}
    load: dict[int, int] = {}
    for k, kind in enumerate(model.kinds):
        for group in kind.groups:
            for node in placement.group_nodes[group]:
                counts[k, node] = counts.get((k, node), 0) + 1
                whole = int(model.problem.node_gpus[node])
                load[node] = load.get(node, 0) + (kind.gpus if kind.nodes_each == 1 else whole)
    for key, variable in model.count.items():
        model.cp.add_hint(variable, counts.get(key, 0))
    for (k, node), variable in model.kept.items():
        if model.kinds[k].nodes_each == 1:
            model.cp.add_hint(variable, min(model.kinds[k].standing[node], counts.get((k, node), 0)))
    for node, variable in model.used.items():
        model.cp.add_hint(variable, node in load)
        model.cp.add_hint(model.full[node], load.get(node, 0) == int(model.problem.node_gpus[node]))


def _counts(model: Model, k: int) -> None:
    kind, problem = model.kinds[k], model.problem
    for node in model.nodes[k]:
        most = 1 if kind.nodes_each > 1 else min(len(kind.groups), int(problem.node_gpus[node]) // kind.gpus)
        model.count[k, node] = model.cp.new_int_var(0, most, f"count_{k}_{node}")
    own = [model.count[k, node] for node in model.nodes[k]]
    if own:
        model.cp.add(sum(own) == len(kind.groups) * kind.nodes_each)
    else:
        model.cp.add_bool_or([])


def _racks(model: Model, k: int) -> None:
    """A group of several nodes takes them in one rack."""
    kind = model.kinds[k]
    by_rack: dict[int, list[int]] = {}
    for node in model.nodes[k]:
        by_rack.setdefault(int(model.problem.node_rack[node]), []).append(node)
    for rack, nodes in by_rack.items():
        groups = model.cp.new_int_var(0, min(len(kind.groups), len(nodes) // kind.nodes_each), f"rack_{k}_{rack}")
        model.in_rack[k, rack] = groups
        model.cp.add(sum(model.count[k, node] for node in nodes) == kind.nodes_each * groups)


def _kept(model: Model, k: int) -> None:
    """Groups that stay: no more on a node than run there now; one a node where a group takes it whole."""
    kind = model.kinds[k]
    by_rack: dict[int, list[Any]] = {}
    for node, standing in sorted(kind.standing.items()):
        if (k, node) not in model.count:
            continue
        kept = model.cp.new_int_var(0, 1 if kind.nodes_each > 1 else standing, f"kept_{k}_{node}")
        model.cp.add(kept <= model.count[k, node])
        model.kept[k, node] = kept
        by_rack.setdefault(int(model.problem.node_rack[node]), []).append(kept)
    if kind.nodes_each > 1:
        # Two nodes of one group are not two groups that stay.
        for rack, kept_there in by_rack.items():
            model.cp.add(sum(kept_there) <= model.in_rack[k, rack])


def _nodes(model: Model) -> None:
    problem, cp = model.problem, model.cp
    kinds_on: dict[int, list[int]] = {}
    for k, node in model.count:
        kinds_on.setdefault(node, []).append(k)
    for node, kinds in sorted(kinds_on.items()):
        gpus = int(problem.node_gpus[node])
        each = [gpus if model.kinds[k].nodes_each > 1 else model.kinds[k].gpus for k in kinds]
        load = sum(weight * model.count[k, node] for weight, k in zip(each, kinds, strict=True))
        model.used[node] = cp.new_bool_var(f"used_{node}")
        model.full[node] = cp.new_bool_var(f"full_{node}")
        cp.add(load <= gpus * model.used[node])
        cp.add(load >= gpus * model.full[node])
        _domains(model, node, [k for k in kinds if model.kinds[k].nodes_each == 1])
    for pool, most in enumerate(problem.max_nodes_used.tolist()):
        cp.add(sum(used for node, used in model.used.items() if problem.node_pool[node] == pool) <= most)


def _domains(model: Model, node: int, kinds: Sequence[int]) -> None:
    """Groups bound to one NVLink domain are counted domain by domain; the others fill what is left of the node."""
    gpus, width = int(model.problem.node_gpus[node]), int(model.problem.node_domain_gpus[node])
    bound = [k for k in kinds if model.kinds[k].one_domain and model.kinds[k].gpus > 1]
    if width >= gpus or not bound:
        return
    loads: list[list[Any]] = []
    parts: dict[int, list[Any]] = {k: [] for k in bound}
    for start in range(0, gpus, width):
        room = min(width, gpus - start)
        loads.append([])
        for k in bound:
            part = model.cp.new_int_var(0, room // model.kinds[k].gpus, f"domain_{k}_{node}_{start}")
            parts[k].append(part)
            loads[-1].append(model.kinds[k].gpus * part)
        model.cp.add(sum(loads[-1]) <= room)
    for k in bound:
        model.cp.add(sum(parts[k]) == model.count[k, node])


def _rules(model: Model) -> None:
    cp = model.cp
    for spread in model.problem.spread:
        reached = []
        for terms in _by_domain(model, spread.groups, spread.level).values():
            present = cp.new_bool_var("")
            cp.add(present <= sum(terms))
            reached.append(present)
        cp.add(sum(reached) >= spread.min_domains)
    for cap in model.problem.caps:
        for terms in _by_domain(model, cap.groups, cap.level).values():
            cp.add(sum(terms) <= cap.max_per_domain)
    for apart in model.problem.apart:
        first = _by_domain(model, apart.first, apart.level)
        second = _by_domain(model, apart.second, apart.level)
        for domain in sorted(set(first) & set(second)):
            for_first = cp.new_bool_var("")
            cp.add(sum(first[domain]) == 0).only_enforce_if(~for_first)
            cp.add(sum(second[domain]) == 0).only_enforce_if(for_first)


def _by_domain(model: Model, groups: Sequence[int], level: int) -> dict[int, list[Any]]:
    """Terms that count the rule's groups in each domain; a group over several nodes of a rack counts once there."""
    ids = level_ids(model.problem, level)
    wanted = set(groups)
    found: dict[int, dict[tuple[int, int], Any]] = {}
    for k, kind in enumerate(model.kinds):
        if not wanted.intersection(kind.groups):
            continue
        by_rack = kind.nodes_each > 1 and level > 0
        for node in model.nodes[k]:
            key = (k, int(model.problem.node_rack[node]) if by_rack else node)
            found.setdefault(int(ids[node]), {})[key] = model.in_rack[key] if by_rack else model.count[key]
    return {domain: list(terms.values()) for domain, terms in found.items()}
