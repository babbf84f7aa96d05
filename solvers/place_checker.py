"""Checks a placement against its problem, from the words of `place_problem` alone; shares no code with the solvers."""

from collections import Counter
from collections.abc import Sequence

from solvers.place_problem import Placement, PlaceProblem


def check(problem: PlaceProblem, placement: Placement) -> list[str]:
    """What the placement breaks, one sentence each; empty for a valid one.

    A group that fits on an allowed node of its pool takes one node; a larger one takes ceil(size / node GPUs) whole
    nodes of the pool's largest allowed size, in one rack. It counts as kept when its current node is among its nodes.
    """
    groups = len(problem.group_gpus)
    if len(placement.group_nodes) != groups or len(placement.group_gpu_indices) != groups:
        placed = (len(placement.group_nodes), len(placement.group_gpu_indices))
        return [f"nodes of {placed[0]} groups and GPUs of {placed[1]} are given, there are {groups} groups"]
    found = [word for group in range(groups) for word in _stands(problem, placement, group)]
    if found:
        return found
    for group in range(groups):
        found += _shape(problem, placement, group)
    return found + _gpus(placement) + _whole_nodes(placement) + _counts(problem, placement) + _rules(problem, placement)


def _stands(problem: PlaceProblem, placement: Placement, group: int) -> list[str]:
    """Whether the nodes and GPU indices of a group exist and are open to it."""
    nodes, indices = placement.group_nodes[group], placement.group_gpu_indices[group]
    if not nodes or len(set(nodes)) != len(nodes):
        return [f"group {group} has no node, or one twice: {nodes}"]
    if len(nodes) != len(indices):
        return [f"group {group} has {len(nodes)} nodes and GPU indices for {len(indices)}"]
    found = []
    for node, own in zip(nodes, indices, strict=True):
        if not 0 <= node < len(problem.node_gpus):
            found.append(f"group {group}: there is no node {node}")
        elif not problem.allowed[group, node]:
            found.append(f"group {group} may not stand on node {node}")
        elif problem.node_pool[node] != problem.group_pool[group]:
            found.append(f"group {group} stands on node {node} outside its pool")
        elif not own or len(set(own)) != len(own) or not all(0 <= i < problem.node_gpus[node] for i in own):
            found.append(f"group {group}: GPU indices {own} are not GPUs of node {node}, each once")
    return found


def _shape(problem: PlaceProblem, placement: Placement, group: int) -> list[str]:
    nodes, indices = placement.group_nodes[group], placement.group_gpu_indices[group]
    size = int(problem.group_gpus[group])
    total = sum(len(own) for own in indices)
    found = [f"group {group} takes {total} GPUs, not {size}"] if total != size else []
    open_to_it = problem.allowed[group] & (problem.node_pool == problem.group_pool[group])
    largest = int(problem.node_gpus[open_to_it].max())
    needed = -(-size // largest)
    if len(nodes) != needed:
        found.append(f"group {group} takes {len(nodes)} nodes, not the {needed} that its size needs")
    if needed > 1 and any(problem.node_gpus[node] != largest for node in nodes):
        found.append(f"group {group} takes nodes with other than {largest} GPUs")
    if needed > 1 and problem.group_one_domain[group] and any(problem.node_domain_gpus[n] < largest for n in nodes):
        found.append(f"group {group} takes whole nodes that are not one NVLink domain each")
    if len({int(problem.node_rack[node]) for node in nodes}) > 1:
        found.append(f"group {group} stands in several racks")
    for node, own in zip(nodes, indices, strict=True):
        if problem.group_one_domain[group] and len({i // int(problem.node_domain_gpus[node]) for i in own}) > 1:
            found.append(f"group {group} leaves its NVLink domain on node {node}")
    return found


def _gpus(placement: Placement) -> list[str]:
    taken = Counter(
        (node, index)
        for nodes, indices in zip(placement.group_nodes, placement.group_gpu_indices, strict=True)
        for node, own in zip(nodes, indices, strict=True)
        for index in own
    )
    return [f"GPU {i} of node {node} is taken {count} times" for (node, i), count in sorted(taken.items()) if count > 1]


def _whole_nodes(placement: Placement) -> list[str]:
    groups_on = Counter(node for nodes in placement.group_nodes for node in nodes)
    whole = {node for nodes in placement.group_nodes if len(nodes) > 1 for node in nodes}
    return [f"node {n} belongs to a group of several nodes and is shared" for n in sorted(whole) if groups_on[n] > 1]


def _counts(problem: PlaceProblem, placement: Placement) -> list[str]:
    used = {node for nodes in placement.group_nodes for node in nodes}
    counts = Counter(int(problem.node_pool[node]) for node in used)
    found = [
        f"pool {pool}: {counts[pool]} nodes are used, at most {most} may be"
        for pool, most in enumerate(problem.max_nodes_used.tolist())
        if counts[pool] > most
    ]
    said = [int(count) for count in placement.nodes_used]
    real = [counts[pool] for pool in range(len(problem.max_nodes_used))]
    if said != real:
        found.append(f"nodes used by pool are said to be {said}, they are {real}")
    moves = 0
    for group, nodes in enumerate(placement.group_nodes):
        if problem.current_node[group] >= 0 and int(problem.current_node[group]) not in nodes:
            moves += int(problem.group_gpus[group])
    if moves != placement.moves_gpus:
        found.append(f"{placement.moves_gpus} GPUs are said to move, {moves} do")
    return found


def _rules(problem: PlaceProblem, placement: Placement) -> list[str]:
    found = []
    for spread in problem.spread:
        reached = set().union(*_domains(problem, placement, spread.groups, spread.level))
        if len(reached) < spread.min_domains:
            found.append(f"{spread.rule}: {len(reached)} domains are reached, at least {spread.min_domains} must be")
    for cap in problem.caps:
        held = Counter(d for domains in _domains(problem, placement, cap.groups, cap.level) for d in domains)
        for domain, count in sorted(held.items()):
            if count > cap.max_per_domain:
                found.append(f"{cap.rule}: {count} groups in domain {domain}, at most {cap.max_per_domain} may be")
    for apart in problem.apart:
        first = set().union(*_domains(problem, placement, apart.first, apart.level))
        second = set().union(*_domains(problem, placement, apart.second, apart.level))
        found += [f"{apart.rule}: domain {domain} holds groups of both sides" for domain in sorted(first & second)]
    return found


def _domains(problem: PlaceProblem, placement: Placement, groups: Sequence[int], level: int) -> list[set[int]]:
    """For each group, the ids of the nodes, racks or zones it stands in."""
    if level == 0:
        return [set(placement.group_nodes[group]) for group in groups]
    names = problem.node_rack if level == 1 else problem.node_zone
    return [{int(names[node]) for node in placement.group_nodes[group]} for group in groups]
