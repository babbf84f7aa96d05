"""The best placement of a tiny problem by trying every one: the reference of the other solvers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from solvers.place_problem import Placement, PlaceProblem

Cost = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Nodes that a group could take, and its NVLink domain there where it is bound to one (else −1)."""

    nodes: tuple[int, ...]
    domain: int


@dataclass(slots=True, kw_only=True)
class _Search:
    problem: PlaceProblem
    order: list[int]
    spots: list[list[Spot]]
    alike_before: list[bool]
    most_steps: int
    steps: int = 0
    best: Cost | None = None
    best_spots: dict[int, Spot] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)


def optimum(problem: PlaceProblem, most_steps: int = 2_000_000) -> tuple[Cost, Placement] | None:
    """((moved GPUs, nodes in use, nodes partly full), a placement with them), or None: there is none.

    Lexicographic minimum. Raises ValueError when it takes more than `most_steps` tries.
    """
    keys = [_key(problem, g) for g in range(len(problem.group_gpus))]
    order = sorted(range(len(keys)), key=lambda g: (keys[g], g))
    search = _Search(
        problem=problem,
        order=order,
        spots=[list(_spots(problem, g)) for g in order],
        alike_before=[i > 0 and keys[order[i]] == keys[order[i - 1]] for i in range(len(order))],
        most_steps=most_steps,
    )
    _descend(search)
    if search.best is None:
        return None
    return search.best, _placement(problem, search.best_spots, search.best)


def _key(problem: PlaceProblem, g: int) -> tuple[object, ...]:
    """Groups with equal keys may be exchanged in any placement."""
    member = [g in rule.groups for rule in problem.spread] + [g in rule.groups for rule in problem.caps]
    member += [g in side for rule in problem.apart for side in (rule.first, rule.second)]
    numbers = (problem.group_gpus, problem.group_pool, problem.group_one_domain, problem.current_node)
    return (*(int(values[g]) for values in numbers), problem.allowed[g].tobytes(), tuple(member))


def _spots(problem: PlaceProblem, g: int) -> Iterator[Spot]:
    size = int(problem.group_gpus[g])
    open_nodes = np.flatnonzero(problem.allowed[g] & (problem.node_pool == problem.group_pool[g])).tolist()
    largest = max((int(problem.node_gpus[n]) for n in open_nodes), default=1)
    for n in open_nodes if size <= largest else ():
        gpus, width = int(problem.node_gpus[n]), int(problem.node_domain_gpus[n])
        if problem.group_one_domain[g]:
            yield from (Spot(nodes=(n,), domain=d) for d in range(-(-gpus // width)) if min(width, gpus) >= size)
        elif size <= gpus:
            yield Spot(nodes=(n,), domain=-1)
    if size > largest:
        whole = [n for n in open_nodes if problem.node_gpus[n] == largest]
        whole = [n for n in whole if not problem.group_one_domain[g] or problem.node_domain_gpus[n] >= largest]
        for nodes in combinations(whole, -(-size // largest)):
            if len({int(problem.node_rack[n]) for n in nodes}) == 1:
                yield Spot(nodes=nodes, domain=-1)


def _descend(search: _Search) -> None:
    search.steps += 1
    if search.steps > search.most_steps:
        raise ValueError(f"more than {search.most_steps} steps: too large to try every placement")
    placed = {search.order[i]: search.spots[i][s] for i, s in enumerate(search.chosen)}
    cost = _cost(search.problem, placed)
    if not _may_hold(search.problem, placed) or (search.best is not None and (*cost[:2], 0) >= search.best):
        return
    depth = len(search.chosen)
    if depth == len(search.order):
        if _spread_holds(search.problem, placed) and (search.best is None or cost < search.best):
            search.best, search.best_spots = cost, placed
        return
    first = search.chosen[-1] if search.alike_before[depth] else 0
    for s in range(first, len(search.spots[depth])):
        search.chosen.append(s)
        _descend(search)
        search.chosen.pop()


def _loads(problem: PlaceProblem, placed: dict[int, Spot]) -> dict[int, int]:
    load: dict[int, int] = {}
    for g, spot in placed.items():
        for n in spot.nodes:
            load[n] = load.get(n, 0) + int(problem.group_gpus[g] if len(spot.nodes) == 1 else problem.node_gpus[n])
    return load


def _cost(problem: PlaceProblem, placed: dict[int, Spot]) -> Cost:
    load = _loads(problem, placed)
    moved = [
        g for g, spot in placed.items() if problem.current_node[g] >= 0 and problem.current_node[g] not in spot.nodes
    ]
    partly = sum(1 for n, gpus in load.items() if gpus < problem.node_gpus[n])
    return sum(int(problem.group_gpus[g]) for g in moved), len(load), partly


def _may_hold(problem: PlaceProblem, placed: dict[int, Spot]) -> bool:
    """Everything that more groups cannot mend: room, nodes in use, caps and apart rules."""
    load = _loads(problem, placed)
    if any(gpus > problem.node_gpus[n] for n, gpus in load.items()):
        return False
    for p, most in enumerate(problem.max_nodes_used.tolist()):
        if sum(1 for n in load if problem.node_pool[n] == p) > most:
            return False
    return _domains_hold(problem, placed) and _caps_hold(problem, placed) and _apart_holds(problem, placed)


def _domains_hold(problem: PlaceProblem, placed: dict[int, Spot]) -> bool:
    load: dict[tuple[int, int], int] = {}
    for g, spot in placed.items():
        if spot.domain >= 0:
            key = (spot.nodes[0], spot.domain)
            load[key] = load.get(key, 0) + int(problem.group_gpus[g])
    return all(gpus <= _width(problem, n, d) for (n, d), gpus in load.items())


def _width(problem: PlaceProblem, n: int, d: int) -> int:
    width = int(problem.node_domain_gpus[n])
    return min(width, int(problem.node_gpus[n]) - d * width)


def _reached(problem: PlaceProblem, spot: Spot, level: int) -> set[int]:
    names = (range(len(problem.node_gpus)), problem.node_rack, problem.node_zone)[level]
    return {int(names[n]) for n in spot.nodes}


def _caps_hold(problem: PlaceProblem, placed: dict[int, Spot]) -> bool:
    for cap in problem.caps:
        standing = [d for g in cap.groups if g in placed for d in _reached(problem, placed[g], cap.level)]
        if any(standing.count(d) > cap.max_per_domain for d in standing):
            return False
    return True


def _apart_holds(problem: PlaceProblem, placed: dict[int, Spot]) -> bool:
    for rule in problem.apart:
        first = {d for g in rule.first if g in placed for d in _reached(problem, placed[g], rule.level)}
        second = {d for g in rule.second if g in placed for d in _reached(problem, placed[g], rule.level)}
        if first & second:
            return False
    return True


def _spread_holds(problem: PlaceProblem, placed: dict[int, Spot]) -> bool:
    return all(
        len({d for g in rule.groups for d in _reached(problem, placed[g], rule.level)}) >= rule.min_domains
        for rule in problem.spread
    )


def _placement(problem: PlaceProblem, placed: dict[int, Spot], cost: Cost) -> Placement:
    """GPU indices in order: groups bound to a domain inside it, then the others on what is free."""
    free = {n: list(range(int(gpus))) for n, gpus in enumerate(problem.node_gpus)}
    indices: dict[int, tuple[tuple[int, ...], ...]] = {}
    for g in sorted(placed, key=lambda g: (placed[g].domain < 0, g)):
        spot, left, own = placed[g], int(problem.group_gpus[g]), []
        for n in spot.nodes:
            inside = [i for i in free[n] if spot.domain < 0 or i // int(problem.node_domain_gpus[n]) == spot.domain]
            own.append(tuple(inside[:left]))
            left -= len(own[-1])
            free[n] = [i for i in free[n] if i not in own[-1]]
        indices[g] = tuple(own)
    used = sorted({n for spot in placed.values() for n in spot.nodes})
    return Placement(
        group_nodes=tuple(placed[g].nodes for g in range(len(problem.group_gpus))),
        group_gpu_indices=tuple(indices[g] for g in range(len(problem.group_gpus))),
        moves_gpus=cost[0],
        nodes_used=np.bincount(problem.node_pool[used], minlength=len(problem.max_nodes_used)).astype(np.int64),
    )
