"""A placement under construction, as arrays: what is free, what the rules still allow, put and lift."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solvers.place_kinds import Kind, kinds_of
from solvers.place_problem import PlaceProblem

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What does not change: kinds, their usable nodes [kind, N], the rules that bind them, domain ids [level][N].

    `apart_of[k]` holds (rule, side); `widths[n, d]`: GPUs of each NVLink domain, 0 where a node has fewer domains.
    """

    problem: PlaceProblem
    kinds: tuple[Kind, ...]
    kind_of: tuple[int, ...]
    usable: tuple[BoolArray, ...]
    spreads_of: tuple[tuple[int, ...], ...]
    caps_of: tuple[tuple[int, ...], ...]
    apart_of: tuple[tuple[tuple[int, int], ...], ...]
    level_ids: tuple[IntArray, IntArray, IntArray]
    widths: IntArray


@dataclass(slots=True, kw_only=True)
class State:
    """What changes: free GPUs [N, D] and [N], groups on each node, nodes that may still be opened, counts by rule."""

    frame: Frame
    free: IntArray
    total: IntArray
    groups_on: list[list[int]]
    used: BoolArray
    nodes_left: list[int]
    spread_counts: list[IntArray]
    spread_left: list[int]
    cap_counts: list[IntArray]
    apart_counts: list[tuple[IntArray, IntArray]]
    at: dict[int, tuple[int, ...]] = field(default_factory=dict)
    shares: dict[int, IntArray] = field(default_factory=dict)


def frame_of(problem: PlaceProblem) -> Frame:
    """The fixed part of a problem's states."""
    kinds = tuple(kinds_of(problem))
    kind_of = [0] * len(problem.group_gpus)
    for k, kind in enumerate(kinds):
        for group in kind.groups:
            kind_of[group] = k
    apart: list[list[tuple[int, int]]] = [[] for _ in kinds]
    for a, rule in enumerate(problem.apart):
        for side, members in enumerate((rule.first, rule.second)):
            for k in {kind_of[group] for group in members}:
                apart[k].append((a, side))
    return Frame(
        problem=problem,
        kinds=kinds,
        kind_of=tuple(kind_of),
        usable=tuple(_usable(problem, kind) for kind in kinds),
        spreads_of=_by_kind([rule.groups for rule in problem.spread], kind_of, len(kinds)),
        caps_of=_by_kind([rule.groups for rule in problem.caps], kind_of, len(kinds)),
        apart_of=tuple(tuple(own) for own in apart),
        level_ids=(
            np.arange(len(problem.node_gpus)),
            np.unique(problem.node_rack, return_inverse=True)[1].astype(np.int64),
            np.unique(problem.node_zone, return_inverse=True)[1].astype(np.int64),
        ),
        widths=_widths(problem),
    )


def _by_kind(members: list[tuple[int, ...]], kind_of: list[int], kinds: int) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(kinds)]
    for rule, groups in enumerate(members):
        for k in sorted({kind_of[group] for group in groups}):
            found[k].append(rule)
    return tuple(tuple(own) for own in found)


def usable_nodes(problem: PlaceProblem, kind: Kind) -> list[int]:
    """Nodes that could take a group of the kind (or one of its nodes) when empty."""
    nodes = np.array(kind.nodes, dtype=np.int64)
    if kind.one_domain:
        gpus = problem.node_gpus[nodes]
        inside = np.minimum(problem.node_domain_gpus[nodes], gpus) >= np.minimum(kind.gpus, gpus)
        nodes = nodes[inside]
    return [int(node) for node in nodes.tolist()]


def _usable(problem: PlaceProblem, kind: Kind) -> BoolArray:
    mask = np.zeros(len(problem.node_gpus), dtype=bool)
    mask[usable_nodes(problem, kind)] = True
    return mask


def _widths(problem: PlaceProblem) -> IntArray:
    domains = int(np.max(-(-problem.node_gpus // problem.node_domain_gpus), initial=1))
    starts = np.arange(domains)[None, :] * problem.node_domain_gpus[:, None]
    return np.clip(problem.node_gpus[:, None] - starts, 0, problem.node_domain_gpus[:, None]).astype(np.int64)


def empty_state(frame: Frame) -> State:
    """Nothing placed yet."""
    problem = frame.problem
    sizes = [int(ids.max(initial=-1)) + 1 for ids in frame.level_ids]

    def zeros(level: int) -> IntArray:
        return np.zeros(sizes[level], dtype=np.int64)

    return State(
        frame=frame,
        free=frame.widths.copy(),
        total=problem.node_gpus.astype(np.int64),
        groups_on=[[] for _ in problem.node_gpus],
        used=np.zeros(len(problem.node_gpus), dtype=bool),
        nodes_left=problem.max_nodes_used.tolist(),
        spread_counts=[zeros(rule.level) for rule in problem.spread],
        spread_left=[len(rule.groups) for rule in problem.spread],
        cap_counts=[zeros(rule.level) for rule in problem.caps],
        apart_counts=[(zeros(rule.level), zeros(rule.level)) for rule in problem.apart],
    )


def open_nodes(state: State, k: int) -> BoolArray:
    """Nodes [N] that the rules and the pool's number of nodes leave open to kind k, whether or not there is room."""
    frame, problem = state.frame, state.frame.problem
    mask = frame.usable[k].copy()
    if state.nodes_left[frame.kinds[k].pool] <= 0:
        mask &= state.used
    for c in frame.caps_of[k]:
        cap = problem.caps[c]
        mask &= state.cap_counts[c][frame.level_ids[cap.level]] < cap.max_per_domain
    for a, side in frame.apart_of[k]:
        mask &= state.apart_counts[a][1 - side][frame.level_ids[problem.apart[a].level]] == 0
    for s in frame.spreads_of[k]:
        wanting = _wanting(state, s)
        if wanting is not None and wanting[1]:
            mask &= wanting[0]
    return mask


def new_domains(state: State, k: int) -> IntArray | None:
    """How many spread rules of kind k each node [N] would serve with a domain they still lack; None: none lacks one."""
    found: IntArray | None = None
    for s in state.frame.spreads_of[k]:
        wanting = _wanting(state, s)
        if wanting is not None:
            found = wanting[0].astype(np.int64) if found is None else found + wanting[0]
    return found


def _wanting(state: State, s: int) -> tuple[BoolArray, bool] | None:
    """(nodes in domains that rule s does not reach yet, whether every group left must go there); None once it holds."""
    rule = state.frame.problem.spread[s]
    counts = state.spread_counts[s]
    lacking = rule.min_domains - int(np.count_nonzero(counts))
    if lacking <= 0:
        return None
    new: BoolArray = counts[state.frame.level_ids[rule.level]] == 0
    return new, lacking >= state.spread_left[s]


def room(state: State, k: int) -> BoolArray:
    """Nodes [N] with room for one more group of kind k (for kinds over several nodes: empty nodes)."""
    kind = state.frame.kinds[k]
    if kind.nodes_each > 1:
        return ~state.used
    if kind.one_domain and state.free.shape[1] > 1:
        return np.asarray(state.free.max(axis=1) >= kind.gpus)
    return np.asarray(state.total >= kind.gpus)


def put(state: State, group: int, nodes: tuple[int, ...]) -> None:
    """Put a group down on nodes that have room for it."""
    frame = state.frame
    kind = frame.kinds[frame.kind_of[group]]
    state.at[group] = nodes
    for node in nodes:
        if not state.used[node]:
            state.used[node] = True
            state.nodes_left[kind.pool] -= 1
        state.groups_on[node].append(group)
        if len(nodes) > 1:
            state.free[node] = 0
            state.total[node] = 0
        else:
            state.shares[group] = _share(state.free[node], kind)
            state.free[node] -= state.shares[group]
            state.total[node] -= kind.gpus
    _count(state, group, nodes, 1)


def lift(state: State, group: int) -> None:
    """Undo `put`."""
    frame = state.frame
    kind = frame.kinds[frame.kind_of[group]]
    nodes = state.at.pop(group)
    _count(state, group, nodes, -1)
    for node in nodes:
        state.groups_on[node].remove(group)
        if len(nodes) > 1:
            state.free[node] = frame.widths[node]
            state.total[node] = frame.problem.node_gpus[node]
        else:
            state.free[node] += state.shares.pop(group)
            state.total[node] += kind.gpus
        if not state.groups_on[node]:
            state.used[node] = False
            state.nodes_left[kind.pool] += 1


def _share(free: IntArray, kind: Kind) -> IntArray:
    """GPUs [D] taken of each domain: the fullest that holds the group, else the fullest first."""
    share = np.zeros_like(free)
    fitting = np.flatnonzero(free >= kind.gpus)
    if fitting.size:
        share[fitting[np.argmin(free[fitting])]] = kind.gpus
        return share
    left = kind.gpus
    for domain in np.argsort(free, kind="stable"):
        share[domain] = min(left, int(free[domain]))
        left -= int(share[domain])
    return share


def _count(state: State, group: int, nodes: tuple[int, ...], sign: int) -> None:
    frame, problem = state.frame, state.frame.problem
    k = frame.kind_of[group]
    for s in frame.spreads_of[k]:
        _add(state.spread_counts[s], frame.level_ids[problem.spread[s].level], nodes, sign)
        state.spread_left[s] -= sign
    for c in frame.caps_of[k]:
        _add(state.cap_counts[c], frame.level_ids[problem.caps[c].level], nodes, sign)
    for a, side in frame.apart_of[k]:
        _add(state.apart_counts[a][side], frame.level_ids[problem.apart[a].level], nodes, sign)


def _add(counts: IntArray, ids: IntArray, nodes: tuple[int, ...], sign: int) -> None:
    """Count a group once in each domain that it stands in."""
    for domain in {int(ids[node]) for node in nodes}:
        counts[domain] += sign
