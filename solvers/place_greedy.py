"""Best-fit-decreasing placement: fast, often all that is needed; says None where it finds no room."""

from dataclasses import dataclass, field

from solvers.place_indices import with_indices
from solvers.place_kinds import Kind, kinds_of, level_ids
from solvers.place_problem import Placement, PlaceProblem


@dataclass(slots=True)
class _State:
    """Free GPUs by domain of every node, what each rule's groups have taken, and the nodes in use."""

    problem: PlaceProblem
    levels: list[list[int]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    nodes_left: list[int] = field(default_factory=list)
    taken: dict[int, tuple[int, ...]] = field(default_factory=dict)
    spread_seen: list[set[int]] = field(default_factory=list)
    cap_counts: list[dict[int, int]] = field(default_factory=list)
    apart_seen: list[tuple[set[int], set[int]]] = field(default_factory=list)


def place_greedy(problem: PlaceProblem) -> Placement | None:
    """A placement, or None when this order of choices finds none (which proves nothing)."""
    state = _start(problem)
    for kind in _ordered(problem, kinds_of(problem)):
        for group in sorted(kind.groups, key=lambda g: (problem.current_node[g] < 0, g)):
            nodes = _choose(state, kind, group)
            if nodes is None:
                return None
            _take(state, kind, group, nodes)
    return with_indices(problem, [state.taken[g] for g in range(len(problem.group_gpus))])


def _start(problem: PlaceProblem) -> _State:
    state = _State(problem)
    state.levels = [level_ids(problem, level).tolist() for level in range(3)]
    for gpus, width in zip(problem.node_gpus.tolist(), problem.node_domain_gpus.tolist(), strict=True):
        state.free.append([min(width, gpus - start) for start in range(0, gpus, width)])
    state.nodes_left = problem.max_nodes_used.tolist()
    state.spread_seen = [set() for _ in problem.spread]
    state.cap_counts = [{} for _ in problem.caps]
    state.apart_seen = [(set(), set()) for _ in problem.apart]
    return state


def _ordered(problem: PlaceProblem, kinds: list[Kind]) -> list[Kind]:
    """Groups that need whole nodes, then those that rules bind, then the rest; larger ones first within each."""
    bound = {g for r in problem.spread for g in r.groups} | {g for c in problem.caps for g in c.groups}
    bound |= {g for r in problem.apart for g in (*r.first, *r.second)}
    return sorted(kinds, key=lambda k: (k.nodes_each == 1, not bound.intersection(k.groups), -k.gpus, k.groups[0]))


def _room(state: _State, kind: Kind, node: int) -> bool:
    domains = state.free[node]
    return max(domains) >= kind.gpus if kind.one_domain else sum(domains) >= kind.gpus


def _allowed(state: _State, group: int, node: int) -> bool:
    problem = state.problem
    if node not in state.used and state.nodes_left[int(problem.node_pool[node])] <= 0:
        return False
    for rule, counts in zip(problem.caps, state.cap_counts, strict=True):
        if group in rule.groups and counts.get(state.levels[rule.level][node], 0) >= rule.max_per_domain:
            return False
    for apart, (first, second) in zip(problem.apart, state.apart_seen, strict=True):
        domain = state.levels[apart.level][node]
        if (group in apart.first and domain in second) or (group in apart.second and domain in first):
            return False
    return True


def _choose(state: _State, kind: Kind, group: int) -> tuple[int, ...] | None:
    problem = state.problem
    if kind.nodes_each > 1:
        return _whole_nodes(state, kind, group)
    current = int(problem.current_node[group])
    fitting = [n for n in kind.nodes if _room(state, kind, n) and _allowed(state, group, n)]
    if not fitting:
        return None
    wishes = [
        (rule, seen)
        for rule, seen in zip(problem.spread, state.spread_seen, strict=True)
        if group in rule.groups and len(seen) < rule.min_domains
    ]

    def rank(node: int) -> tuple[int, int, int, int, int]:
        new = sum(state.levels[rule.level][node] not in seen for rule, seen in wishes)
        return (-new, node != current, node not in state.used, sum(state.free[node]), node)

    return (min(fitting, key=rank),)


def _whole_nodes(state: _State, kind: Kind, group: int) -> tuple[int, ...] | None:
    problem = state.problem
    by_rack: dict[int, list[int]] = {}
    for node in kind.nodes:
        if node not in state.used and _allowed(state, group, node):
            by_rack.setdefault(int(problem.node_rack[node]), []).append(node)
    if state.nodes_left[kind.pool] < kind.nodes_each:
        return None
    racks = [nodes for nodes in by_rack.values() if len(nodes) >= kind.nodes_each]
    if not racks:
        return None
    return tuple(min(racks, key=lambda nodes: (len(nodes), nodes[0]))[: kind.nodes_each])


def _take(state: _State, kind: Kind, group: int, nodes: tuple[int, ...]) -> None:
    problem = state.problem
    state.taken[group] = nodes
    for node in nodes:
        if node not in state.used:
            state.used.add(node)
            state.nodes_left[int(problem.node_pool[node])] -= 1
        _occupy(state.free[node], kind, whole=len(nodes) > 1)
        _note(state, group, node)
    for cap, counts in zip(problem.caps, state.cap_counts, strict=True):
        if group in cap.groups:
            for domain in {state.levels[cap.level][node] for node in nodes}:
                counts[domain] = counts.get(domain, 0) + 1


def _note(state: _State, group: int, node: int) -> None:
    """Note for the spread and apart rules that the group stands there."""
    for rule, seen in zip(state.problem.spread, state.spread_seen, strict=True):
        if group in rule.groups:
            seen.add(state.levels[rule.level][node])
    for apart, (first, second) in zip(state.problem.apart, state.apart_seen, strict=True):
        domain = state.levels[apart.level][node]
        if group in apart.first:
            first.add(domain)
        if group in apart.second:
            second.add(domain)


def _occupy(domains: list[int], kind: Kind, *, whole: bool) -> None:
    if whole:
        domains[:] = [0] * len(domains)
        return
    if kind.one_domain:
        best = min((d for d in range(len(domains)) if domains[d] >= kind.gpus), key=lambda d: domains[d])
        domains[best] -= kind.gpus
        return
    left = kind.gpus
    for d in sorted(range(len(domains)), key=lambda d: domains[d]):
        part = min(left, domains[d])
        domains[d] -= part
        left -= part
