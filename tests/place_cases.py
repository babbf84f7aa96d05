"""Placement problems for tests: by hand, small random ones that can be enumerated, and fleets of realistic size."""

from dataclasses import replace

import numpy as np

from solvers.place_problem import ApartRule, BoolArray, CapRule, IntArray, Placement, PlaceProblem, SpreadRule


def make(
    *,
    sizes: list[int],
    racks: list[int],
    gpus: int | list[int] = 8,
    domain: int | None = None,
    kinds: list[int] | None = None,
    current: list[int] | None = None,
    most_nodes: int | None = None,
    one_domain: list[bool] | None = None,
) -> PlaceProblem:
    """One pool; zones are pairs of racks. Groups of one size are one kind unless `kinds` says otherwise."""
    nodes, groups = len(racks), len(sizes)
    node_gpus = np.full(nodes, gpus, dtype=np.int64) if isinstance(gpus, int) else np.array(gpus, dtype=np.int64)
    return PlaceProblem(
        node_pool=np.zeros(nodes, dtype=np.int64),
        node_rack=np.array(racks, dtype=np.int64),
        node_zone=np.array(racks, dtype=np.int64) // 2,
        node_gpus=node_gpus,
        node_domain_gpus=node_gpus.copy() if domain is None else np.full(nodes, domain, dtype=np.int64),
        group_pool=np.zeros(groups, dtype=np.int64),
        group_gpus=np.array(sizes, dtype=np.int64),
        group_one_domain=np.array([False] * groups if one_domain is None else one_domain, dtype=bool),
        group_kind=np.array(sizes if kinds is None else kinds, dtype=np.int64),
        allowed=np.ones((groups, nodes), dtype=bool),
        current_node=np.array([-1] * groups if current is None else current, dtype=np.int64),
        max_nodes_used=np.array([nodes if most_nodes is None else most_nodes], dtype=np.int64),
    )


def small(seed: int) -> PlaceProblem:
    """A random problem with at most 6 nodes and 7 groups: pools, domains, pins, rules, current nodes, few nodes to buy.

    Sizes and nodes are drawn so that about as many are infeasible as not, most of them only through a combination.
    """
    rng = np.random.default_rng(seed)
    nodes, groups = int(rng.integers(3, 7)), int(rng.integers(3, 8))
    pools = int(rng.integers(1, 3))
    node_pool = np.sort(np.arange(nodes) % pools)
    # Racks never straddle pools; a zone holds racks of both.
    node_rack = node_pool * 10 + rng.integers(3, size=nodes)
    node_gpus = np.full(nodes, 8) if rng.random() < 0.7 else rng.choice([4, 8], nodes)
    kinds = int(rng.integers(2, 5))
    kind_gpus = rng.choice(np.array([1, 2, 3, 4, 5, 8, 12]), size=kinds, p=[0.15, 0.25, 0.15, 0.2, 0.1, 0.1, 0.05])
    group_kind = np.sort(rng.integers(kinds, size=groups))
    group_pool = rng.integers(pools, size=kinds)[group_kind]
    load = np.bincount(group_pool, weights=kind_gpus[group_kind], minlength=pools)
    most = np.ceil(load / 8).astype(np.int64) + rng.integers(3, size=pools)
    current = np.where(rng.random(groups) < 0.5, rng.integers(nodes, size=groups), -1)
    halves = rng.random() < 0.4
    one_domain = (rng.random(kinds) < 0.5) & ((kind_gpus <= 4) | (not halves))
    problem = PlaceProblem(
        node_pool=node_pool.astype(np.int64),
        node_rack=node_rack.astype(np.int64),
        node_zone=(node_rack % 2).astype(np.int64),
        node_gpus=node_gpus.astype(np.int64),
        node_domain_gpus=(np.full(nodes, 4) if halves else node_gpus).astype(np.int64),
        group_pool=group_pool.astype(np.int64),
        group_gpus=kind_gpus[group_kind].astype(np.int64),
        group_one_domain=one_domain[group_kind],
        group_kind=group_kind.astype(np.int64),
        allowed=_allowed(rng, group_kind, nodes),
        current_node=current.astype(np.int64),
        max_nodes_used=np.minimum(most, nodes).astype(np.int64),
    )
    spread, caps, apart = _random_rules(rng, group_kind)
    return replace(problem, spread=spread, caps=caps, apart=apart)


def _allowed(rng: np.random.Generator, group_kind: IntArray, nodes: int) -> BoolArray:
    by_kind = rng.random((int(group_kind.max()) + 1, nodes)) < 0.9
    return np.asarray(by_kind[group_kind])


def _random_rules(
    rng: np.random.Generator, group_kind: IntArray
) -> tuple[tuple[SpreadRule, ...], tuple[CapRule, ...], tuple[ApartRule, ...]]:
    members = [tuple(np.flatnonzero(group_kind == k).tolist()) for k in np.unique(group_kind)]
    first, second = members[0], members[-1]
    spread: tuple[SpreadRule, ...] = ()
    caps: tuple[CapRule, ...] = ()
    apart: tuple[ApartRule, ...] = ()
    if rng.random() < 0.4:
        asked = int(rng.integers(1, min(3, len(first)) + 1))
        spread = (SpreadRule(rule="spread", groups=first, level=int(rng.integers(3)), min_domains=asked),)
    if rng.random() < 0.4:
        most = int(rng.integers(1, 3))
        caps = (CapRule(rule="cap", groups=second, level=int(rng.integers(3)), max_per_domain=most),)
    if len(members) > 1 and rng.random() < 0.4:
        apart = (ApartRule(rule="apart", first=first, second=second, level=int(rng.integers(2))),)
    return spread, caps, apart


def feasible_by_construction(seed: int, racks: int, nodes_each: int, kinds: int, fill_fraction: float) -> PlaceProblem:
    """Groups thrown onto nodes of 8 GPUs at random; rules are set to what that placement happens to keep.

    Each kind spreads over at least as many racks as it reached (3 at most), and no rack may hold more of it than one
    did; the first two kinds stay apart by node where they did.
    """
    rng = np.random.default_rng(seed)
    nodes = racks * nodes_each
    kind_gpus = rng.choice(np.array([1, 2, 4, 8]), size=kinds, p=[0.3, 0.3, 0.25, 0.15])
    free = np.full(nodes, 8, dtype=np.int64)
    placed: list[tuple[int, int]] = []
    for _ in range(20 * nodes):
        kind, node = int(rng.integers(kinds)), int(rng.integers(nodes))
        if free[node] >= kind_gpus[kind] and free.sum() - kind_gpus[kind] >= (1 - fill_fraction) * 8 * nodes:
            free[node] -= kind_gpus[kind]
            placed.append((kind, node))
    placed.sort()
    of_kind = [[(g, node) for g, (k, node) in enumerate(placed) if k == kind] for kind in range(kinds)]
    present = [own for own in of_kind if own]
    rack = [node // nodes_each for node in range(nodes)]
    apart: tuple[ApartRule, ...] = ()
    if len(present) > 1 and not {n for _, n in present[0]} & {n for _, n in present[1]}:
        sides = [tuple(g for g, _ in own) for own in present[:2]]
        apart = (ApartRule(rule="apart", first=sides[0], second=sides[1], level=0),)
    problem = make(sizes=[int(kind_gpus[k]) for k, _ in placed], racks=rack, kinds=[k for k, _ in placed])
    return replace(
        problem,
        spread=tuple(
            SpreadRule(
                rule=f"spread of kind {k}",
                groups=tuple(g for g, _ in own),
                level=1,
                min_domains=min(3, len({rack[node] for _, node in own})),
            )
            for k, own in enumerate(of_kind)
            if own
        ),
        caps=tuple(
            CapRule(
                rule=f"survive of kind {k}",
                groups=tuple(g for g, _ in own),
                level=1,
                max_per_domain=max(sum(rack[node] == r for _, node in own) for r in range(racks)),
            )
            for k, own in enumerate(of_kind)
            if own
        ),
        apart=apart,
    )


def fleet(seed: int, nodes: int, kinds: int, fill_fraction: float) -> PlaceProblem:
    """Nodes of 8 GPUs in racks of 10, groups of 1 to 16 GPUs up to the fill; kinds of 3 or more span 3 racks."""
    rng = np.random.default_rng(seed)
    kind_gpus = rng.choice(np.array([1, 2, 4, 8, 16]), size=kinds, p=[0.33, 0.28, 0.22, 0.12, 0.05])
    group_kind: list[int] = []
    left = int(fill_fraction * nodes * 8)
    while left >= kind_gpus.min():
        kind = int(rng.integers(kinds))
        if kind_gpus[kind] <= left:
            group_kind.append(kind)
            left -= int(kind_gpus[kind])
    sizes = [int(kind_gpus[k]) for k in group_kind]
    problem = make(
        sizes=sizes,
        racks=[node // 10 for node in range(nodes)],
        kinds=group_kind,
        one_domain=[size <= 8 for size in sizes],
    )
    members = [tuple(np.flatnonzero(problem.group_kind == k).tolist()) for k in range(kinds)]
    return replace(
        problem,
        spread=tuple(
            SpreadRule(rule=f"spread of kind {k}", groups=own, level=1, min_domains=3)
            for k, own in enumerate(members)
            if len(own) >= 3
        ),
    )


def running(problem: PlaceProblem, placement: Placement) -> PlaceProblem:
    """The same problem with every group running where the placement has it."""
    current = np.array([nodes[0] for nodes in placement.group_nodes], dtype=np.int64)
    return replace(problem, current_node=current)
