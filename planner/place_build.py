"""From a mix to the placement problem and back: nodes and racks by name, copies as groups, cuts where it fails."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.fleet import Pool
from planner.mix_build import Market
from planner.verify import Placed
from planner.words import Rows
from solvers.mix_problem import Block, MixSolution, RuleRow
from solvers.place import solve
from solvers.place_core import core
from solvers.place_problem import ApartRule, CapRule, Core, PlaceProblem, SpreadRule
from solvers.result import Termination
from solvers.stop import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """All nodes of the fleet, pool by pool: `pool[i]`, `number[i]` within its pool, ids of rack and zone."""

    pool: tuple[Pool, ...]
    number: tuple[int, ...]
    rack: tuple[int, ...]
    zone: tuple[int, ...]

    def name(self, node: int) -> str:
        """Name of a node."""
        return self.pool[node].node_name(self.number[node])


def nodes_of(pools: tuple[Pool, ...]) -> Nodes:
    """The nodes of the pools; rack ids are unique over the fleet."""
    zones = sorted({p.zone for p in pools})
    entries = [
        (pool, number, first_rack + pool.rack_of(number), zones.index(pool.zone))
        for pool, first_rack in zip(pools, _first_racks(pools), strict=True)
        for number in range(pool.max_nodes)
    ]
    return Nodes(
        pool=tuple(e[0] for e in entries),
        number=tuple(e[1] for e in entries),
        rack=tuple(e[2] for e in entries),
        zone=tuple(e[3] for e in entries),
    )


def _first_racks(pools: tuple[Pool, ...]) -> list[int]:
    firsts = [0]
    for pool in pools[:-1]:
        firsts.append(firsts[-1] + pool.racks)
    return firsts


def place_problem(
    market: Market, rows: Rows, nodes: Nodes, solution: MixSolution, kept: Mapping[str, list[str]]
) -> PlaceProblem:
    """One group for each copy. `kept`: queue id → names of nodes where copies of it run now, to be kept if possible."""
    names = {nodes.name(i): i for i in range(len(nodes.pool))}
    queue_of: list[int] = []
    current: list[int] = []
    for queue in market.queues:
        standing = [names[n] for n in kept.get(queue.id, []) if n in names]
        for copy in range(int(solution.copies[queue.index])):
            queue_of.append(queue.index)
            current.append(standing[copy] if copy < len(standing) else -1)
    queues = [market.queues[q] for q in queue_of]
    groups_of = {q: tuple(g for g, other in enumerate(queue_of) if other == q) for q in set(queue_of)}
    node_pool = np.array([p.index for p in nodes.pool], dtype=np.int64)
    pools = np.array([q.template.pool.index for q in queues], dtype=np.int64)

    def members(wanted: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(g for q in wanted for g in groups_of.get(q, ()))

    return PlaceProblem(
        node_pool=node_pool,
        node_rack=np.array(nodes.rack, dtype=np.int64),
        node_zone=np.array(nodes.zone, dtype=np.int64),
        node_gpus=np.array([p.gpus_per_node for p in nodes.pool], dtype=np.int64),
        node_domain_gpus=np.array([_domain(p) for p in nodes.pool], dtype=np.int64),
        group_pool=pools,
        group_gpus=np.array([q.template.gpus for q in queues], dtype=np.int64),
        group_one_domain=np.array([1 < q.template.gpus <= _domain(q.template.pool) for q in queues], dtype=bool),
        group_kind=np.array(queue_of, dtype=np.int64),
        allowed=pools[:, None] == node_pool[None, :],
        current_node=np.array(current, dtype=np.int64),
        max_nodes_used=np.array([_usable_nodes(p, solution) for p in market.pools], dtype=np.int64),
        spread=tuple(
            SpreadRule(rule=w.rule, groups=members(w.queues), level=w.level, min_domains=w.min_domains)
            for w in rows.spread
        ),
        caps=tuple(
            CapRule(
                rule=f"survive of {market.queues[q].id}",
                groups=groups_of[q],
                level=level,
                max_per_domain=int(solution.copies_per_domain_max[q]),
            )
            for q, level in sorted(rows.cap_level.items())
            if q in groups_of and solution.copies_per_domain_max[q] > 0
        ),
        apart=tuple(
            ApartRule(rule=w.rule, first=members(w.first), second=members(w.second), level=w.level)
            for w in rows.apart
            if members(w.first) and members(w.second)
        ),
    )


def _usable_nodes(pool: Pool, solution: MixSolution) -> int:
    """Nodes the copies may stand on: those bought where nodes are paid for, any where single GPUs are."""
    return int(solution.nodes[pool.index]) if pool.buys_nodes else pool.max_nodes


def _domain(pool: Pool) -> int:
    """GPUs of one node that a group may span: without fast links every GPU reaches every other over PCIe alike."""
    return pool.domain_gpus if pool.domain_gpus > 1 else pool.gpus_per_node


def placed(market: Market, problem: PlaceProblem, solution: MixSolution, stop: Stop, seed: int) -> Placed:
    """A placement, or the cut that a proof of impossibility gives the mix (F4); neither when nothing is known."""
    result = solve(problem, stop, seed)
    if result.solution is not None:
        return Placed(placement=result.solution, cut=None)
    if result.termination is not Termination.INFEASIBLE:
        return Placed(placement=None, cut=None)
    return Placed(placement=None, cut=_cut(market, problem, solution, core(problem, stop)))


def _cut(market: Market, problem: PlaceProblem, solution: MixSolution, why: Core) -> RuleRow:
    """Fewer copies of the queues in the core, or more nodes of their pools: dropping groups keeps a placement valid."""
    queues = sorted({int(problem.group_kind[g]) for g in why.groups})
    pools = sorted({int(problem.group_pool[g]) for g in why.groups})
    growing = [p for p in pools if _usable_nodes(market.pools[p], solution) < market.pools[p].max_nodes]
    total = float(sum(int(solution.copies[q]) for q in queues))
    terms = [(Block.COPIES, q, 1.0) for q in queues] + [(Block.NODES, p, -total) for p in growing]
    nodes = float(sum(int(solution.nodes[p]) for p in growing))
    reason = "; ".join(why.rules) or "the nodes have room for fewer copies"
    return RuleRow(rule=f"placement: {reason}", terms=tuple(terms), sense="<=", bound=total - 1.0 - total * nodes)
