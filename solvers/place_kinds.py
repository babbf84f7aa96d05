"""Groups that are interchangeable, counted: what both the greedy and the exact placement work on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.place_problem import PlaceProblem

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Groups alike in size, pool, allowed nodes and rules. `standing[n]`: groups of it that run on node n now."""

    groups: tuple[int, ...]
    gpus: int
    one_domain: bool
    pool: int
    nodes: tuple[int, ...]
    nodes_each: int
    standing: dict[int, int]


def kinds_of(problem: PlaceProblem) -> list[Kind]:
    """The kinds, larger groups first, then in the order of their first group."""
    members: dict[tuple[object, ...], list[int]] = {}
    rules = [*(r.groups for r in problem.spread), *(r.groups for r in problem.caps)]
    rules += [side for r in problem.apart for side in (r.first, r.second)]
    inside = [set(groups) for groups in rules]
    for group in range(len(problem.group_gpus)):
        key = (
            int(problem.group_kind[group]),
            int(problem.group_gpus[group]),
            bool(problem.group_one_domain[group]),
            int(problem.group_pool[group]),
            problem.allowed[group].tobytes(),
            tuple(group in one for one in inside),
        )
        members.setdefault(key, []).append(group)
    kinds = [_kind(problem, tuple(groups)) for groups in members.values()]
    return sorted(kinds, key=lambda k: (-k.gpus, k.groups[0]))


def _kind(problem: PlaceProblem, groups: tuple[int, ...]) -> Kind:
    first = groups[0]
    size = int(problem.group_gpus[first])
    pool = int(problem.group_pool[first])
    candidates = np.flatnonzero(problem.allowed[first] & (problem.node_pool == pool))
    largest = int(problem.node_gpus[candidates].max()) if candidates.size else 1
    standing: dict[int, int] = {}
    for group in groups:
        node = int(problem.current_node[group])
        if node >= 0:
            standing[node] = standing.get(node, 0) + 1
    nodes_each = -(-size // largest)
    fitting = problem.node_gpus[candidates] >= min(size, largest)
    return Kind(
        groups=groups,
        gpus=size,
        one_domain=bool(problem.group_one_domain[first]),
        pool=pool,
        nodes=tuple(candidates[fitting].tolist()),
        nodes_each=nodes_each,
        standing=standing,
    )


def level_ids(problem: PlaceProblem, level: int) -> NDArray[np.int64]:
    """Domain id of every node at a level: 0 node, 1 rack, 2 zone."""
    return (np.arange(len(problem.node_gpus)), problem.node_rack, problem.node_zone)[level]
