"""From queues, demands and pools to the arrays of the mix problem, under one capacity table or at its fluid limit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.demand import Demand, WorkloadDemand
from planner.fleet import Pool
from planner.queues import Queue
from solvers.mix_problem import MixProblem, RuleRow, SurviveRow

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


def mix_problem(market: Market, brackets: Brackets, extra_rules: Sequence[RuleRow] = ()) -> MixProblem:
    """The problem with `brackets(queue)` as capacities, and with the cuts of the placement as further rules."""
    return _problem(market, brackets, tuple(extra_rules), np.array([d.rate_rps for d in market.demands]))


def fluid_problem(market: Market) -> MixProblem:
    """The problem whose optimum no plan of this option space beats: fluid capacities, and α of every demand."""
    rates = np.array([d.rate_rps * (market.workloads[d.workload].target or 1.0) for d in market.demands])
    return _problem(market, fluid_brackets, (), rates)


def fluid_brackets(queue: Queue) -> list[tuple[int, int, float]]:
    """One bracket: every copy may work at the rate that nothing exceeds."""
    return [(1, queue.max_copies, queue.fluid_rps)] if queue.max_copies > 0 else []


def unlimited_brackets(queue: Queue) -> list[tuple[int, int, float]]:
    """One bracket without a limit, for mixes whose capacity simulation decides."""
    return [(1, queue.max_copies, UNLIMITED_RPS)] if queue.max_copies > 0 else []


def _problem(
    market: Market,
    brackets: Brackets,
    extra_rules: tuple[RuleRow, ...],
    rates: np.ndarray[tuple[int], np.dtype[np.float64]],
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
        demand_rate_rps=rates,
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
