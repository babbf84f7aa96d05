"""GPU indices on the nodes: which GPUs of its node each group takes, aligned where possible."""

from collections.abc import Sequence

import numpy as np

from solvers.place_problem import Placement, PlaceProblem


def with_indices(problem: PlaceProblem, group_nodes: Sequence[Sequence[int]]) -> Placement | None:
    """The placement with indices; None when the domains of some node do not hold its groups this way."""
    indices: list[tuple[tuple[int, ...], ...]] = [()] * len(group_nodes)
    on_node: dict[int, list[int]] = {}
    for group, nodes in enumerate(group_nodes):
        if len(nodes) > 1:
            indices[group] = _whole(problem, group, nodes)
        else:
            on_node.setdefault(nodes[0], []).append(group)
    for node, groups in on_node.items():
        taken = _on_one_node(problem, node, groups)
        if taken is None:
            return None
        for group, chosen in taken.items():
            indices[group] = (chosen,)
    used = sorted({node for nodes in group_nodes for node in nodes})
    return Placement(
        group_nodes=tuple(tuple(nodes) for nodes in group_nodes),
        group_gpu_indices=tuple(indices),
        moves_gpus=sum(
            int(problem.group_gpus[g])
            for g, nodes in enumerate(group_nodes)
            if problem.current_node[g] >= 0 and problem.current_node[g] not in nodes
        ),
        nodes_used=np.bincount(problem.node_pool[used], minlength=len(problem.max_nodes_used)).astype(np.int64),
    )


def _whole(problem: PlaceProblem, group: int, nodes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    left = int(problem.group_gpus[group])
    found = []
    for node in nodes:
        count = min(left, int(problem.node_gpus[node]))
        found.append(tuple(range(count)))
        left -= count
    return tuple(found)


def _on_one_node(problem: PlaceProblem, node: int, groups: Sequence[int]) -> dict[int, tuple[int, ...]] | None:
    """Groups bound to a domain first, larger first, each in the fullest domain that holds it; the others fill up."""
    width = int(problem.node_domain_gpus[node])
    free = [
        list(range(s, min(s + width, int(problem.node_gpus[node]))))
        for s in range(0, int(problem.node_gpus[node]), width)
    ]
    found: dict[int, tuple[int, ...]] = {}
    order = sorted(groups, key=lambda g: (not problem.group_one_domain[g], -int(problem.group_gpus[g]), g))
    for group in order:
        size = int(problem.group_gpus[group])
        if problem.group_one_domain[group] or size == 1:
            fitting = [domain for domain in free if len(domain) >= size]
            if not fitting:
                return None
            domain = min(fitting, key=lambda d: (len(d), d[0]))
            found[group] = _aligned(domain, size)
            domain[:] = [i for i in domain if i not in found[group]]
        else:
            rest = [i for domain in free for i in domain]
            if len(rest) < size:
                return None
            found[group] = tuple(rest[:size])
            free = [[i for i in domain if i not in found[group]] for domain in free]
    return found


def _aligned(free: Sequence[int], size: int) -> tuple[int, ...]:
    """`size` neighbours starting at a multiple of the size if they are free, else the first free ones."""
    left = set(free)
    for start in free:
        block = range(start, start + size)
        if start % size == 0 and all(i in left for i in block):
            return tuple(block)
    return tuple(free[:size])
