"""From a verified mix to the plan object."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.capacity_table import CapacityTable
from planner.cells import Draws
from planner.descend import KeptCopy
from planner.fleet import Pool
from planner.mix_build import Market
from planner.outcomes import Seen
from planner.place_build import Nodes
from planner.plan_file import (
    EngineSettings,
    GpuCount,
    GpuId,
    Group,
    Replica,
    Route,
    Slack,
    Verified,
    WorkloadResult,
)
from planner.queues import LatencyServing, LlmServing, Queue
from planner.verify import Candidate
from profiles.units import ms_from_s

DIGITS = 6
LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The parts of a plan that speak of a mix."""

    groups: tuple[Group, ...]
    routes: dict[str, tuple[Route, ...]]
    gpu_counts: dict[str, GpuCount]
    workloads: dict[str, WorkloadResult]
    slack: tuple[Slack, ...]
    verified: Verified


def build(
    market: Market, nodes: Nodes, best: Candidate, seen: Mapping[str, Seen], table: CapacityTable, draws: Draws
) -> Built:
    """Groups, routes, counts and workload results of a mix."""
    groups, ids = _groups(market, nodes, best)
    return Built(
        groups=groups,
        routes={w.name: _routes(market, best, w.index, ids) for w in market.workloads},
        gpu_counts={p.name: _count(market, best, p) for p in market.pools},
        workloads={w.name: _workload(market, best, w.index, seen[w.name], table) for w in market.workloads},
        slack=(),
        verified=Verified(
            held=best.holds,
            draws=draws.count,
            requests_per_draw={
                w.name: round(np.mean([np.count_nonzero(draws.get(w.index, k).scored) for k in range(draws.count)]))
                for w in market.workloads
            },
            confidence_note="draws are independent; the rule is a one-sided 97.7 % confidence",
        ),
    )


def slack_of(market: Market, kept: tuple[KeptCopy, ...]) -> tuple[Slack, ...]:
    """The copies that could nearly go, as the plan says them."""
    return tuple(Slack(queue=market.queues[k.queue].id, copies=k.copies, reason=k.reason) for k in kept)


def _groups(market: Market, nodes: Nodes, best: Candidate) -> tuple[tuple[Group, ...], dict[int, list[str]]]:
    found: list[Group] = []
    ids: dict[int, list[str]] = {}
    position = 0
    for queue in market.queues:
        for copy in range(int(best.solution.copies[queue.index])):
            name = f"{queue.id}#{copy}"
            ids.setdefault(queue.index, []).append(name)
            found.append(_group(queue, name, _gpu_ids(nodes, best, position)))
            position += 1
    return tuple(found), ids


def _gpu_ids(nodes: Nodes, best: Candidate, group: int) -> tuple[GpuId, ...]:
    placement = best.placement
    return tuple(
        GpuId(node=nodes.name(node), index=int(index))
        for node, indices in zip(placement.group_nodes[group], placement.group_gpu_indices[group], strict=True)
        for index in indices
    )


def _group(queue: Queue, name: str, gpu_ids: tuple[GpuId, ...]) -> Group:
    template = queue.template
    return Group(
        id=name,
        template=template.id,
        queue=queue.id,
        pool=template.pool.name,
        gpu=template.pool.gpu.name,
        gpu_ids=gpu_ids,
        tp=template.tp,
        pp=template.pp,
        ep=template.ep,
        replicas=(_replica(queue),),
    )


def _replica(queue: Queue) -> Replica:
    template = queue.template
    serving = template.serving
    if isinstance(serving, LlmServing):
        memory = serving.memory
        return Replica(
            model=template.model,
            architecture=serving.architecture.name,
            quantization=template.quantization,
            memory_bytes=memory.visible_bytes - memory.slack_bytes,
            kv_tokens=memory.usable_kv_tokens,
            engine=EngineSettings(
                max_num_seqs=serving.limits.max_num_seqs,
                max_num_batched_tokens=serving.limits.max_num_batched_tokens,
                max_model_len=serving.limits.max_model_len,
                kv_cache_memory_bytes=max(memory.kv_bytes, 0),
                kv_cache_dtype=serving.kv_dtype,
                gpu_memory_utilization=serving.gpu_memory_utilization,
                enable_expert_parallel=template.ep > 1,
            ),
        )
    batch = serving.max_batch if isinstance(serving, LatencyServing) else None
    memory_bytes = serving.memory_bytes if isinstance(serving, LatencyServing) else 0
    return Replica(
        model=template.model, quantization=template.quantization, memory_bytes=memory_bytes, kv_tokens=0, batch=batch
    )


def _routes(market: Market, best: Candidate, workload: int, ids: Mapping[int, list[str]]) -> tuple[Route, ...]:
    """The routes of a workload; one of weight 0 leads to copies that stand by for the loss of others."""
    served = sum(_flow(market, best, queue, workload) for queue in market.queues)
    if served <= 0:
        return ()
    found = []
    for queue in market.queues:
        flow = _flow(market, best, queue, workload)
        mine = [market.demands[d] for d, _ in queue.parts if market.demands[d].workload == workload]
        if not mine or not ids.get(queue.index):
            continue
        whole = len(mine) == len(market.workloads[workload].classes)
        high = None if whole else max(d.high_tokens for d in mine)
        for group in ids[queue.index]:
            found.append(
                Route(
                    group=group,
                    weight_fraction=round(flow / served / len(ids[queue.index]), 9),
                    input_tokens_max=int(high) if high is not None and np.isfinite(high) else None,
                )
            )
    return tuple(found)


def _flow(market: Market, best: Candidate, queue: Queue, workload: int) -> float:
    share = sum(part for d, part in queue.parts if market.demands[d].workload == workload)
    return float(best.solution.flow_rps[queue.index]) * share


def _count(market: Market, best: Candidate, pool: Pool) -> GpuCount:
    used = sum(int(best.solution.copies[q.index]) * q.template.gpus for q in market.queues if q.template.pool is pool)
    return GpuCount(
        bought=int(best.solution.paid_gpus[pool.index]),
        used=used,
        nodes=int(best.placement.nodes_used[pool.index]),
        price_usd_per_gpu_hour=pool.price_usd_per_gpu_hour,
        billing=pool.billing,
    )


def _workload(market: Market, best: Candidate, index: int, seen: Seen, table: CapacityTable) -> WorkloadResult:
    workload = market.workloads[index]
    attainment = best.attainments[index]
    served = sum(_flow(market, best, queue, index) for queue in market.queues)
    capacity = 0.0
    for queue in market.queues:
        copies = int(best.solution.copies[queue.index])
        share = sum(part for d, part in queue.parts if market.demands[d].workload == index)
        if copies and share:
            # What was simulated to hold is a capacity too, where the table had been tightened below it.
            held = float(best.solution.flow_rps[queue.index]) if best.holds else 0.0
            capacity += share * max(copies * table.per_copy_rps(queue.index, copies), held)
    limits = (workload.slo.ttft_s, workload.slo.tpot_s, workload.slo.e2e_s)
    return WorkloadResult(
        model=workload.model,
        best_effort=workload.best_effort,
        rate_rps=round(workload.rate_rps, DIGITS),
        served_rps=round(served, DIGITS),
        capacity_rps=round(capacity, DIGITS),
        attainment=round(attainment.mean, DIGITS) if _has_limits(limits) else None,
        attainment_target=None if workload.best_effort else workload.attainment,
        attainment_standard_error=round(attainment.standard_error, DIGITS),
        ttft_ms=seen.ttft_ms,
        tpot_ms=seen.tpot_ms,
        e2e_ms=seen.e2e_ms,
        slo={name: round(ms_from_s(v), DIGITS) for name, v in zip(LIMITS, limits, strict=True) if np.isfinite(v)},
        evidence=seen.evidence,
    )


def _has_limits(limits: tuple[float, ...]) -> bool:
    return any(np.isfinite(limit) for limit in limits)
