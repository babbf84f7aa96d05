"""From queues, demands and pools to the arrays of the mix problem, under one capacity table or at its fluid limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.demand import Demand, WorkloadDemand
from planner.fleet import Pool
from planner.queues import CapacityServing, Queue
from profiles.engines import Engine
from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow

UNLIMITED_RPS = 1e9
Brackets = Callable[[Queue], list[tuple[int, int, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Everything of a mix problem that no capacity changes."""

    pools: tuple[Pool, ...]
    workloads: tuple[WorkloadDemand, ...]
    demands: tuple[Demand, ...]
    queues: tuple[Queue, ...]
    rules: tuple[RuleRow, ...]
    survive: tuple[SurviveRow, ...]
    allow_unmet: bool
    engine: Engine
    """What runs the queues' models."""


def mix_problem(market: Market, brackets: Brackets, extra_rules: Sequence[RuleRow] = ()) -> MixProblem:
    """The problem with `brackets(queue)` as capacities, and with the cuts of the placement as further rules."""
    return _problem(market, brackets, tuple(extra_rules))


def fluid_problem(market: Market) -> MixProblem:
    """The problem whose optimum no plan of this option space beats: fluid capacities, and what may miss served free.

    A plan may lay all its misses on one route, where requests are dear: how much of a demand then costs nothing is
    `missable_fraction`; queues on a pool of its own, which no rule knows, take that much of every demand. Rules on
    flows are left out, since flows here count requests that attain.
    """
    rules = tuple(r for r in market.rules if all(block != Block.FLOW_RPS for block, _, _ in r.terms))
    real = mix_problem(replace(market, rules=rules), fluid_brackets)
    rates = np.array([missable_fraction(market, d) * d.rate_rps for d in market.demands])
    free = np.flatnonzero(rates > 0)
    if free.size == 0:
        return real
    ones = np.ones(free.size, dtype=np.int64)
    queues = real.queue_pool.size + np.arange(free.size)
    return replace(
        real,
        pool_price_usd_per_gpu_hour=np.append(real.pool_price_usd_per_gpu_hour, 0.0),
        pool_gpus_per_node=np.append(real.pool_gpus_per_node, 1),
        pool_max_nodes=np.append(real.pool_max_nodes, free.size),
        pool_buys_nodes=np.append(real.pool_buys_nodes, False),
        queue_pool=np.append(real.queue_pool, ones * real.pool_max_nodes.size),
        queue_gpus_per_copy=np.append(real.queue_gpus_per_copy, ones),
        queue_max_copies=np.append(real.queue_max_copies, ones),
        share=np.concatenate([real.share, np.eye(len(market.demands))[free]]),
        bracket_queue=np.append(real.bracket_queue, queues),
        bracket_low=np.append(real.bracket_low, ones),
        bracket_high=np.append(real.bracket_high, ones),
        bracket_capacity_rps=np.append(real.bracket_capacity_rps, rates[free]),
        survive=tuple(replace(row, pool_domains=np.append(row.pool_domains, 1)) for row in real.survive),
    )


def missable_fraction(market: Market, demand: Demand) -> float:
    """The fraction of a demand that the fluid bound lets go: what misses can at most save on the queues that serve it.

    With θ of its requests attaining, a queue's busy time is at least f · K · (1 + e · (θ − α)), K its mean cost at the
    target α and e its exchange (the cost is convex in θ). Summed over the queues of a demand that has them to itself,
    Σ f · (θ − α) >= 0, and only the differences of e count; otherwise misses of all the queues' workloads do.
    """
    queues = [q for q in market.queues if demand.index in {d for d, _ in q.parts}]
    if not queues or market.workloads[demand.workload].best_effort:
        return 0.0
    whole = market.workloads[demand.workload].classes == (demand.index,)
    if whole and all(len(q.parts) == 1 for q in queues):
        most, least = max(q.exchange[0][2] for q in queues), min(q.exchange[0][1] for q in queues)
        return min(1.0, (1.0 - market.workloads[demand.workload].target) * (most - least))
    saved: dict[int, float] = {}
    for queue in queues:
        rate = sum(market.demands[d].rate_rps for d, _ in queue.parts)
        for workload, _, most in queue.exchange:
            saved[workload] = max(saved.get(workload, 0.0), most / rate)
    missed = {w: (1.0 - market.workloads[w].target) * market.workloads[w].rate_rps for w in saved}
    return min(1.0, sum(missed[w] * saved[w] for w in saved))


def fluid_brackets(queue: Queue) -> list[tuple[int, int, float]]:
    """One bracket: every copy may work at the rate that nothing exceeds."""
    return [(1, queue.max_copies, queue.fluid_rps)] if queue.max_copies > 0 else []


def unlimited_brackets(queue: Queue) -> list[tuple[int, int, float]]:
    """One bracket without a limit, for mixes whose capacity simulation decides; that of a capacity table stays."""
    if isinstance(queue.template.serving, CapacityServing):
        return fluid_brackets(queue)
    return [(1, queue.max_copies, UNLIMITED_RPS)] if queue.max_copies > 0 else []


def _problem(
    market: Market,
    brackets: Brackets,
    extra_rules: tuple[RuleRow, ...],
) -> MixProblem:
    rows = [(queue.index, *bracket) for queue in market.queues for bracket in brackets(queue)]
    share = np.zeros((len(market.queues), len(market.demands)))
    for queue in market.queues:
        for demand, part in queue.parts:
            share[queue.index, demand] = part
    pools, workloads, queues = market.pools, market.workloads, market.queues
    return MixProblem(
        pool_price_usd_per_gpu_hour=np.array([p.price_in_objective for p in pools]),
        pool_gpus_per_node=np.array([p.gpus_per_node for p in pools], dtype=np.int64),
        pool_max_nodes=np.array([p.max_nodes for p in pools], dtype=np.int64),
        pool_buys_nodes=np.array([p.buys_nodes for p in pools]),
        workload_priority=np.array([w.priority for w in workloads], dtype=np.int64),
        workload_best_effort=np.array([w.best_effort for w in workloads]),
        workload_tokens_per_request=np.array([w.traffic.mean_tokens for w in workloads]),
        demand_workload=np.array([d.workload for d in market.demands], dtype=np.int64),
        demand_rate_rps=np.array([d.rate_rps for d in market.demands]),
        queue_pool=np.array([q.template.pool.index for q in queues], dtype=np.int64),
        queue_gpus_per_copy=np.array([q.template.gpus for q in queues], dtype=np.int64),
        queue_max_copies=np.array([q.max_copies for q in queues], dtype=np.int64),
        share=share,
        bracket_queue=np.array([r[0] for r in rows], dtype=np.int64),
        bracket_low=np.array([r[1] for r in rows], dtype=np.int64),
        bracket_high=np.array([r[2] for r in rows], dtype=np.int64),
        bracket_capacity_rps=np.array([r[3] for r in rows], dtype=np.float64),
        allow_unmet=market.allow_unmet,
        rules=market.rules + extra_rules,
        survive=market.survive,
    )
