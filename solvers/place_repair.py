"""Room for a group that found none: move one other group, or lift the cheapest smaller ones of a node or a rack."""

from collections.abc import Sequence

import numpy as np

from solvers.place_state import State, open_nodes

MOST_LIFTS = 3  # of one group: together with "never a larger group" this makes the repair end
NODES_TRIED = 200
MOVES_TRIED = 400
Lifts = dict[int, int]
Plan = tuple[int, tuple[int, ...], tuple[int, ...]]  # cost, nodes, groups to lift


def cheapest_eviction(state: State, group: int, lifted: Lifts) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(the nodes that the group shall take, the groups to lift first), None where no such node exists."""
    k = state.frame.kind_of[group]
    plans = _clear_racks(state, k, lifted) if state.frame.kinds[k].nodes_each > 1 else _one_node(state, k, lifted)
    best = min(plans, default=None)
    return None if best is None else (best[1], best[2])


def movable_for(state: State, group: int) -> list[tuple[int, int]]:
    """(another group, its node): where a group of one node would fit if that one left, the cheapest to move first.

    Of groups of one kind on one node only the first is named. The other group may be the larger one: moving it into
    room that is there already always gains a group, so this needs no limit to end.
    """
    k = state.frame.kind_of[group]
    if state.frame.kinds[k].nodes_each > 1:
        return []
    found = []
    gpus, sizes = state.frame.kinds[k].gpus, state.frame.problem.group_gpus.tolist()
    for node in np.flatnonzero(open_nodes(state, k)).tolist():
        seen = {k}
        missing = gpus - int(state.total[node])
        for other in state.groups_on[node]:
            own = state.frame.kind_of[other]
            if own not in seen and sizes[other] >= missing and len(state.at[other]) == 1:
                seen.add(own)
                found.append((_price(state, other), other, node))
    return [(other, node) for _, other, node in sorted(found)[:MOVES_TRIED]]


def _may_lift(state: State, k: int, group: int, lifted: Lifts) -> bool:
    kinds, own = state.frame.kinds, state.frame.kind_of[group]
    return (
        own != k
        and kinds[own].nodes_each == 1
        and kinds[own].gpus <= kinds[k].gpus
        and lifted.get(group, 0) < MOST_LIFTS
    )


def _price(state: State, group: int) -> int:
    """Lifting a group that stands where it runs now moves it; one that a spread rule needs there comes back hard."""
    problem = state.frame.problem
    gpus = int(problem.group_gpus[group])
    stays = int(problem.current_node[group]) in state.at[group]
    return gpus * (1000 if stays else 1) + (50 if _needed_there(state, group) else 0)


def _needed_there(state: State, group: int) -> bool:
    """Whether a spread rule would lack a domain without the group."""
    frame = state.frame
    for s in frame.spreads_of[frame.kind_of[group]]:
        rule, counts = frame.problem.spread[s], state.spread_counts[s]
        alone = counts[frame.level_ids[rule.level][state.at[group][0]]] == 1
        if alone and int(np.count_nonzero(counts)) <= rule.min_domains:
            return True
    return False


def _one_node(state: State, k: int, lifted: Lifts) -> list[Plan]:
    frame = state.frame
    kind = frame.kinds[k]
    several = kind.one_domain and state.free.shape[1] > 1
    best_free = state.free.max(axis=1) if several else state.total
    nodes = np.flatnonzero(open_nodes(state, k))
    nearest = nodes[np.argsort(-best_free[nodes], kind="stable")][:NODES_TRIED]
    plans: list[Plan] = []
    for node in nearest.tolist():
        movable = [g for g in state.groups_on[node] if _may_lift(state, k, g, lifted)]
        if not several:
            plans += _plan(state, node, movable, kind.gpus - int(state.total[node]))
            continue
        for domain in np.flatnonzero(frame.widths[node] >= kind.gpus).tolist():
            inside = [g for g in movable if state.shares[g][domain] == frame.problem.group_gpus[g]]
            plans += _plan(state, node, inside, kind.gpus - int(state.free[node, domain]))
    return plans


def _plan(state: State, node: int, movable: Sequence[int], missing: int) -> list[Plan]:
    """The cheapest groups of the node that free `missing` GPUs: a knapsack over at most a node's GPUs."""
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for group in movable:
        gpus, price = int(state.frame.problem.group_gpus[group]), _price(state, group)
        for freed, (cost, groups) in list(best.items()):
            reached = min(missing, freed + gpus)
            option = (cost + price, (*groups, group))
            if freed < missing and (reached not in best or option < best[reached]):
                best[reached] = option
    if missing not in best:
        return []
    cost, groups = best[missing]
    return [(cost, (node,), groups)]


def _clear_racks(state: State, k: int, lifted: Lifts) -> list[Plan]:
    frame = state.frame
    kind = frame.kinds[k]
    open_to_it = np.flatnonzero(frame.usable[k] & open_nodes(state, k)).tolist()
    by_rack: dict[int, list[tuple[int, int]]] = {}
    for node in open_to_it:
        groups = state.groups_on[node]
        if all(_may_lift(state, k, g, lifted) for g in groups):
            by_rack.setdefault(int(frame.level_ids[1][node]), []).append((sum(_price(state, g) for g in groups), node))
    plans: list[Plan] = []
    for priced in by_rack.values():
        chosen = sorted(priced)[: kind.nodes_each]
        fresh = sum(not state.used[node] for _, node in chosen)
        if len(chosen) == kind.nodes_each and fresh <= state.nodes_left[kind.pool]:
            nodes = tuple(sorted(node for _, node in chosen))
            plans.append(
                (sum(price for price, _ in chosen), nodes, tuple(g for n in nodes for g in state.groups_on[n]))
            )
    return plans
