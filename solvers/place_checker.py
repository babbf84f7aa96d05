"""Checks a placement against its problem; shares no code with the solvers."""

from solvers.place_problem import Placement, PlaceProblem


def check(problem: PlaceProblem, placement: Placement) -> list[str]:
    """What the placement breaks, one sentence each; nothing for a valid one."""
    found: list[str] = []
    groups = len(problem.group_gpus)
    if len(placement.group_nodes) != groups or len(placement.group_gpu_indices) != groups:
        return [f"{len(placement.group_nodes)} groups are placed, there are {groups}"]
    taken: set[tuple[int, int]] = set()
    for group in range(groups):
        found += _group(problem, placement, group)
        for node, indices in zip(placement.group_nodes[group], placement.group_gpu_indices[group], strict=False):
            for index in indices:
                if (node, index) in taken:
                    found.append(f"GPU {index} of node {node} is taken twice")
                taken.add((node, index))
    return found + _pools(problem, placement) + _rules(problem, placement)


def _group(problem: PlaceProblem, placement: Placement, group: int) -> list[str]:
    nodes = placement.group_nodes[group]
    indices = placement.group_gpu_indices[group]
    size = int(problem.group_gpus[group])
    if not nodes or len(nodes) != len(indices) or len(set(nodes)) != len(nodes):
        return [f"group {group} has no proper list of nodes"]
    found = []
    if sum(len(one) for one in indices) != size:
        found.append(f"group {group} takes {sum(len(one) for one in indices)} GPUs, not {size}")
    for node, one in zip(nodes, indices, strict=True):
        found += _stand(problem, group, node, one)
    return found if found else _shape(problem, placement, group)


def _stand(problem: PlaceProblem, group: int, node: int, indices: tuple[int, ...]) -> list[str]:
    if not 0 <= node < len(problem.node_gpus) or not problem.allowed[group, node]:
        return [f"group {group} may not stand on node {node}"]
    found = []
    if problem.node_pool[node] != problem.group_pool[group]:
        found.append(f"group {group} stands outside its pool")
    if any(not 0 <= i < problem.node_gpus[node] for i in indices) or len(set(indices)) != len(indices):
        found.append(f"group {group} names GPUs that node {node} does not have")
    return found


def _shape(problem: PlaceProblem, placement: Placement, group: int) -> list[str]:
    nodes = placement.group_nodes[group]
    size = int(problem.group_gpus[group])
    largest = int(problem.node_gpus[nodes[0]])
    found = []
    if len(nodes) != -(-size // largest):
        found.append(f"group {group} takes {len(nodes)} nodes, not the {-(-size // largest)} that its size needs")
    if len({int(problem.node_rack[n]) for n in nodes}) > 1:
        found.append(f"group {group} spans racks")
    width = int(problem.node_domain_gpus[nodes[0]])
    if problem.group_one_domain[group] and len({i // width for i in placement.group_gpu_indices[group][0]}) > 1:
        found.append(f"group {group} leaves its NVLink domain")
    return found


def _pools(problem: PlaceProblem, placement: Placement) -> list[str]:
    found = []
    used = {node for nodes in placement.group_nodes for node in nodes}
    for pool, most in enumerate(problem.max_nodes_used.tolist()):
        count = sum(1 for node in used if problem.node_pool[node] == pool)
        if count > most:
            found.append(f"pool {pool}: {count} nodes used, at most {most} may be")
        if count != placement.nodes_used[pool]:
            found.append(f"pool {pool}: {placement.nodes_used[pool]} nodes are said to be used, {count} are")
    # A group that spans nodes takes them whole.
    whole = {n for nodes in placement.group_nodes if len(nodes) > 1 for n in nodes}
    for node in sorted(whole):
        standing = [g for g, nodes in enumerate(placement.group_nodes) if node in nodes]
        if len(standing) > 1:
            found.append(f"node {node} belongs to a group of several nodes and is shared")
    moves = sum(
        int(problem.group_gpus[g])
        for g, nodes in enumerate(placement.group_nodes)
        if problem.current_node[g] >= 0 and problem.current_node[g] not in nodes
    )
    if moves != placement.moves_gpus:
        found.append(f"{placement.moves_gpus} GPUs are said to move, {moves} do")
    return found


def _rules(problem: PlaceProblem, placement: Placement) -> list[str]:
    names = {0: list(range(len(problem.node_gpus))), 1: problem.node_rack.tolist(), 2: problem.node_zone.tolist()}

    def domains(group: int, level: int) -> set[int]:
        return {names[level][node] for node in placement.group_nodes[group]}

    found = []
    for spread in problem.spread:
        reached = {d for g in spread.groups for d in domains(g, spread.level)}
        if len(reached) < spread.min_domains:
            found.append(f"{spread.rule}: {len(reached)} domains, at least {spread.min_domains} are asked for")
    for cap in problem.caps:
        counts: dict[int, int] = {}
        for g in cap.groups:
            for d in domains(g, cap.level):
                counts[d] = counts.get(d, 0) + 1
        if max(counts.values(), default=0) > cap.max_per_domain:
            found.append(f"{cap.rule}: {max(counts.values())} in one domain, at most {cap.max_per_domain} may be")
    for apart in problem.apart:
        left = {d for g in apart.first for d in domains(g, apart.level)}
        right = {d for g in apart.second for d in domains(g, apart.level)}
        if left & right:
            found.append(f"{apart.rule}: both stand in domain {min(left & right)}")
    return found
