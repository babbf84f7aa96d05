"""GPU indices: from the nodes of every group to a placement, NVLink domains packed exactly, sizes aligned."""

from collections.abc import Sequence

import numpy as np

from solvers.place_problem import Placement, PlaceProblem


def numbered(problem: PlaceProblem, group_nodes: Sequence[Sequence[int]]) -> Placement | None:
    """The placement with its indices, the same for the same nodes; None when the groups of some node do not fit on it.

    Blocks of a power of two start at a multiple of their size where that is free (0-1, 2-3, 0-3, 4-7).
    """
    indices: list[tuple[tuple[int, ...], ...]] = [()] * len(group_nodes)
    on_node: dict[int, list[int]] = {}
    for group, nodes in enumerate(group_nodes):
        if len(nodes) > 1:
            indices[group] = _whole(problem, group, nodes)
        else:
            on_node.setdefault(nodes[0], []).append(group)
    for node, groups in on_node.items():
        taken = _one_node(problem, node, groups)
        if taken is None:
            return None
        for group, own in taken.items():
            indices[group] = (own,)
    used = sorted({node for nodes in group_nodes for node in nodes})
    return Placement(
        group_nodes=tuple(tuple(nodes) for nodes in group_nodes),
        group_gpu_indices=tuple(indices),
        moves_gpus=moved_gpus(problem, group_nodes),
        nodes_used=np.bincount(problem.node_pool[used], minlength=len(problem.max_nodes_used)).astype(np.int64),
    )


def moved_gpus(problem: PlaceProblem, group_nodes: Sequence[Sequence[int]]) -> int:
    """GPUs of the groups that run somewhere now and would not stay there."""
    current = problem.current_node.tolist()
    sizes = problem.group_gpus.tolist()
    return sum(sizes[g] for g, nodes in enumerate(group_nodes) if current[g] >= 0 and current[g] not in nodes)


def cost(problem: PlaceProblem, placement: Placement) -> tuple[int, int, int]:
    """What is minimised, in this order: GPUs that move, nodes in use, nodes in use that are not full."""
    load: dict[int, int] = {}
    for nodes, indices in zip(placement.group_nodes, placement.group_gpu_indices, strict=True):
        for node, own in zip(nodes, indices, strict=True):
            # Nobody else may use what a group of several nodes leaves on its nodes: they count as full.
            load[node] = load.get(node, 0) + (len(own) if len(nodes) == 1 else int(problem.node_gpus[node]))
    partly = sum(1 for node, gpus in load.items() if gpus < problem.node_gpus[node])
    return placement.moves_gpus, len(load), partly


def _whole(problem: PlaceProblem, group: int, nodes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    left = int(problem.group_gpus[group])
    found = []
    for node in nodes:
        count = min(left, int(problem.node_gpus[node]))
        found.append(tuple(range(count)))
        left -= count
    return tuple(found)


def _one_node(problem: PlaceProblem, node: int, groups: Sequence[int]) -> dict[int, tuple[int, ...]] | None:
    gpus, width = int(problem.node_gpus[node]), int(problem.node_domain_gpus[node])
    free = [list(range(start, min(start + width, gpus))) for start in range(0, gpus, width)]
    size = {group: int(problem.group_gpus[group]) for group in groups}
    in_order = sorted(groups, key=lambda g: (-size[g], g))
    # Where a node is one domain, every group is inside it: all are aligned alike.
    bound = [g for g in in_order if problem.group_one_domain[g] or len(free) == 1 or size[g] == 1]
    packed = _packed([size[g] for g in bound], [len(domain) for domain in free])
    if packed is None or sum(size.values()) > gpus:
        return None
    found: dict[int, tuple[int, ...]] = {}
    for group, domain in zip(bound, packed, strict=True):
        found[group] = _aligned(free[domain], size[group], domain * width)
        free[domain] = [i for i in free[domain] if i not in found[group]]
    for group in in_order:
        if group not in found:
            found[group] = _anywhere(free, size[group], width)
            free = [[i for i in domain if i not in found[group]] for domain in free]
    return found


def _packed(sizes: list[int], room: list[int]) -> list[int] | None:
    """A domain for each size (given large to small), exactly: None only if there is no way. Fullest domain first."""
    dead: set[tuple[int, tuple[int, ...]]] = set()

    def place(position: int, left: list[int]) -> list[int] | None:
        if position == len(sizes):
            return []
        state = (position, tuple(sorted(left)))
        if state in dead:
            return None
        tried: set[int] = set()
        for domain in sorted(range(len(left)), key=lambda d: (left[d], d)):
            if left[domain] < sizes[position] or left[domain] in tried:
                continue
            tried.add(left[domain])
            after = [*left[:domain], left[domain] - sizes[position], *left[domain + 1 :]]
            rest = place(position + 1, after)
            if rest is not None:
                return [domain, *rest]
        dead.add(state)
        return None

    return place(0, room)


def _aligned(free: Sequence[int], size: int, start_of_domain: int) -> tuple[int, ...]:
    """Neighbours from a multiple of the next power of two, else any neighbours, else the first free ones."""
    step = 1 << (size - 1).bit_length()
    left = set(free)
    runs = [start for start in free if all(i in left for i in range(start, start + size))]
    aligned = [start for start in runs if (start - start_of_domain) % step == 0]
    for start in (aligned or runs)[:1]:
        return tuple(range(start, start + size))
    return tuple(free[:size])


def _anywhere(free: Sequence[Sequence[int]], size: int, width: int) -> tuple[int, ...]:
    """Inside the fullest domain that holds the group, else over as few domains as possible."""
    inside = [d for d, domain in enumerate(free) if len(domain) >= size]
    if inside:
        domain = min(inside, key=lambda d: (len(free[d]), d))
        return _aligned(free[domain], size, domain * width)
    emptiest = sorted(range(len(free)), key=lambda d: (-len(free[d]), d))
    return tuple(sorted([i for d in emptiest for i in free[d]][:size]))
