"""Best-fit-decreasing placement with eviction repair: fast, and no proof of anything when it fails."""

from collections.abc import Callable, Iterable

import numpy as np

from solvers.place_numbering import cost, numbered
from solvers.place_problem import Placement, PlaceProblem
from solvers.place_repair import cheapest_eviction, movable_for
from solvers.place_state import Frame, IntArray, State, empty_state, frame_of, lift, new_domains, open_nodes, put, room

Order = Callable[[Frame, int], tuple[int, ...]]


def place_greedy(problem: PlaceProblem) -> Placement | None:
    """The cheapest of a few orders of placing, None when none of them places all groups (which proves nothing).

    Cheapest by `place_numbering.cost`. It meets spread, cap and apart rules; a checker still has the last word.
    """
    frame = frame_of(problem)
    best: Placement | None = None
    for order, keep_first in ((_by_size, True), (_by_rules, True), (_by_rules, False)):
        state = _run(frame, order, keep_first)
        found = None if state is None else _result(state)
        if found is not None and (best is None or cost(problem, found) < cost(problem, best)):
            best = found
        if best is not None and best.moves_gpus == 0:
            return best
    return best


def _by_size(frame: Frame, group: int) -> tuple[int, ...]:
    k = frame.kind_of[group]
    kind = frame.kinds[k]
    return (kind.nodes_each == 1, -kind.gpus, not _bound(frame, k), k, group)


def _by_rules(frame: Frame, group: int) -> tuple[int, ...]:
    k = frame.kind_of[group]
    kind = frame.kinds[k]
    return (kind.nodes_each == 1, not _bound(frame, k), -kind.gpus, k, group)


def _bound(frame: Frame, k: int) -> bool:
    return bool(frame.spreads_of[k] or frame.caps_of[k] or frame.apart_of[k])


def _run(frame: Frame, order: Order, keep_first: bool) -> State | None:
    """Groups that run now stay where they may, the others follow in order; then the repair of what is left over."""
    state = empty_state(frame)
    groups = sorted(range(len(frame.kind_of)), key=lambda g: order(frame, g))
    if keep_first:
        _keep(state, groups)
    left = []
    for group in groups:
        if group not in state.at and not _place(state, group):
            left.append(group)
    return state if _repair(state, left) else None


def _keep(state: State, groups: Iterable[int]) -> None:
    current = state.frame.problem.current_node.tolist()
    for group in groups:
        if current[group] >= 0:
            nodes = _choice(state, state.frame.kind_of[group], current[group])
            if nodes is not None and current[group] in nodes:
                put(state, group, nodes)


def _place(state: State, group: int) -> bool:
    nodes = _choice(state, state.frame.kind_of[group], int(state.frame.problem.current_node[group]))
    if nodes is None:
        return False
    put(state, group, nodes)
    return True


def _choice(state: State, k: int, current: int) -> tuple[int, ...] | None:
    """The best nodes for a group of kind k that runs on `current` (−1: nowhere), None if nothing is open."""
    candidates = np.flatnonzero(open_nodes(state, k) & room(state, k))
    if state.frame.kinds[k].nodes_each > 1:
        return _rack_choice(state, k, candidates, current)
    if not candidates.size:
        return None
    return (int(candidates[np.argmin(_score(state, k, candidates, current))]),)


def _score(state: State, k: int, candidates: IntArray, current: int) -> IntArray:
    """Lower is better: stay, then a domain that a spread rule lacks, then a node in use, then the tightest fit."""
    kind = state.frame.kinds[k]
    unit = int(state.frame.problem.node_gpus.max()) + 1
    total = state.total[candidates] - kind.gpus
    score = total
    if state.free.shape[1] > 1:
        free = state.free[candidates]
        score = np.where(free >= kind.gpus, free - kind.gpus, unit - 1).min(axis=1) * unit + total
    score = score + np.where(state.used[candidates], 0, unit**2)
    new = new_domains(state, k)
    if new is not None:
        score = score - new[candidates] * 2 * unit**2
    if current >= 0:
        score = score - (candidates == current) * 2 * unit**2 * (len(state.frame.spreads_of[k]) + 1)
    return np.asarray(score, dtype=np.int64)


def _rack_choice(state: State, k: int, candidates: IntArray, current: int) -> tuple[int, ...] | None:
    """Empty nodes of the rack with the fewest to spare; the rack where the group runs comes first."""
    kind = state.frame.kinds[k]
    if state.nodes_left[kind.pool] < kind.nodes_each:
        return None
    by_rack: dict[int, list[int]] = {}
    for node in candidates.tolist():
        by_rack.setdefault(int(state.frame.level_ids[1][node]), []).append(node)
    racks = [nodes for nodes in by_rack.values() if len(nodes) >= kind.nodes_each]
    if not racks:
        return None
    new = new_domains(state, k)
    best = min(
        racks,
        key=lambda nodes: (current not in nodes, -int(new[nodes].max()) if new is not None else 0, len(nodes), nodes),
    )
    # Nodes where other groups of the kind run now are left to them where possible.
    wanted = state.frame.kinds[k].standing
    chosen = sorted(best, key=lambda n: (n != current, n in wanted, -int(new[n]) if new is not None else 0, n))
    return tuple(sorted(chosen[: kind.nodes_each]))


def _repair(state: State, left: list[int]) -> bool:
    """Place what is left by lifting others, largest first; whether all groups stand in the end."""
    lifted: dict[int, int] = {}
    sizes = state.frame.problem.group_gpus.tolist()
    waiting = sorted(left, key=lambda g: (-sizes[g], g))
    while waiting:
        group = waiting.pop(0)
        if _place(state, group) or _move_one(state, group):
            continue
        found = cheapest_eviction(state, group, lifted)
        if found is None:
            return False
        nodes, away = found
        for other in away:
            lift(state, other)
            lifted[other] = lifted.get(other, 0) + 1
        put(state, group, nodes)
        waiting = sorted([*waiting, *away], key=lambda g: (-sizes[g], g))
    return True


def _move_one(state: State, group: int) -> bool:
    """Place a group by moving one other group into room that is there; whether that was possible."""
    k = state.frame.kind_of[group]
    for other, node in movable_for(state, group):
        before = state.at[other]
        lift(state, other)
        if open_nodes(state, k)[node] and room(state, k)[node]:
            put(state, group, (node,))
            if _place(state, other):
                return True
            lift(state, group)
        put(state, other, before)
    return False


def _result(state: State) -> Placement | None:
    """The placement with GPU indices, None when a rule that only the whole placement can tell is broken."""
    problem = state.frame.problem
    for rule, counts in zip(problem.spread, state.spread_counts, strict=True):
        if int(np.count_nonzero(counts)) < rule.min_domains:
            return None
    # A group named on both sides of an apart rule is kept apart from itself: there is no such place.
    if any(np.any((first > 0) & (second > 0)) for first, second in state.apart_counts):
        return None
    return numbered(problem, [state.at[group] for group in range(len(problem.group_gpus))])
