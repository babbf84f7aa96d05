"""What no placement can beat, and what rules one out, from sizes and rules alone: cheap at any scale."""

import numpy as np

from solvers.fit_rows import blocks, broken_row, fit_rows_hold
from solvers.place_kinds import Kind, kinds_of, level_ids
from solvers.place_problem import CapRule, Core, PlaceProblem, SpreadRule
from solvers.place_state import usable_nodes


def fewest_nodes(problem: PlaceProblem) -> int:
    """A lower bound on the nodes that any placement uses: fit rows of each pool, spread and cap rules."""
    spread = [rule.min_domains for rule in problem.spread]
    caps = [-(-len(rule.groups) // rule.max_per_domain) for rule in problem.caps if rule.max_per_domain > 0]
    return max(sum(fewest_by_pool(problem)), *spread, *caps, 0)


def fewest_by_pool(problem: PlaceProblem) -> list[int]:
    """A lower bound on the nodes that any placement uses of each pool, from its fit rows."""
    kinds = kinds_of(problem)
    by_pool = []
    for pool in range(len(problem.max_nodes_used)):
        sizes, free = _sizes(problem, kinds, pool), _free(problem, pool)
        # The rows of the m largest nodes: with fewer nodes than the least such m some row is broken.
        low, high = 0, len(free)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if fit_rows_hold(sizes, free[:middle]) else (middle + 1, high)
        by_pool.append(low)
    return by_pool


def contradiction(problem: PlaceProblem) -> Core | None:
    """Groups and rules that plainly cannot hold, None where it takes a search to tell."""
    kinds = kinds_of(problem)
    for kind in kinds:
        if not _has_place(problem, kind):
            return Core(groups=kind.groups[:1], rules=(), minimal=True)
    for spread in problem.spread:
        if len(_reachable(problem, kinds, spread)) < spread.min_domains:
            return Core(groups=tuple(sorted(spread.groups)), rules=(spread.rule,), minimal=False)
    for cap in problem.caps:
        # Every group stands in at least one domain.
        if len(cap.groups) > cap.max_per_domain * len(_reachable(problem, kinds, cap)):
            return Core(groups=tuple(sorted(cap.groups)), rules=(cap.rule,), minimal=False)
    for pool in range(len(problem.max_nodes_used)):
        found = _too_many(problem, kinds, pool)
        if found is not None:
            return found
    return None


def _has_place(problem: PlaceProblem, kind: Kind) -> bool:
    """Whether one group of the kind can stand anywhere at all."""
    nodes = usable_nodes(problem, kind)
    most = int(problem.max_nodes_used[kind.pool])
    racks = np.unique(problem.node_rack[nodes], return_counts=True)[1]
    return kind.nodes_each <= most and bool(np.any(racks >= kind.nodes_each))


def _reachable(problem: PlaceProblem, kinds: list[Kind], rule: SpreadRule | CapRule) -> set[int]:
    ids = level_ids(problem, rule.level)
    members = set(rule.groups)
    own = [kind for kind in kinds if members.intersection(kind.groups)]
    return {int(ids[node]) for kind in own for node in usable_nodes(problem, kind)}


def _too_many(problem: PlaceProblem, kinds: list[Kind], pool: int) -> Core | None:
    """Groups of the pool that break a fit row on as many of its nodes as may be used."""
    free = _free(problem, pool)[: int(problem.max_nodes_used[pool])]
    t = broken_row(_sizes(problem, kinds, pool), free)
    if t is None:
        return None
    taken = {g: blocks(_expanded(problem, kind), t) for kind in kinds if kind.pool == pool for g in kind.groups}
    excess = sum(taken.values()) - blocks(free, t)
    kept = []
    for group, count in sorted(taken.items(), key=lambda item: (item[1], item[0])):
        if count < excess:
            excess -= count
        elif count:
            kept.append(group)
    return Core(groups=tuple(sorted(kept)), rules=(), minimal=False)


def _free(problem: PlaceProblem, pool: int) -> list[int]:
    """GPUs of the pool's nodes, largest first."""
    return sorted(problem.node_gpus[problem.node_pool == pool].tolist(), reverse=True)


def _sizes(problem: PlaceProblem, kinds: list[Kind], pool: int) -> list[int]:
    return [size for kind in kinds if kind.pool == pool for _ in kind.groups for size in _expanded(problem, kind)]


def _expanded(problem: PlaceProblem, kind: Kind) -> list[int]:
    """What one group takes on each of its nodes: whole nodes where it needs several."""
    if kind.nodes_each == 1:
        return [kind.gpus]
    return [int(problem.node_gpus[list(kind.nodes)].max())] * kind.nodes_each
