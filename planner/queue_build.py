"""Queues of a plan: every useful mix of demands on every layout, with the engine settings that serve it best.

For each mix, pool and GPU footprint the best few layouts are kept: the others need the same GPUs and serve less.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from planner import capacity_kernel as kernel
from planner.capacity import (
    BRACKETS,
    FloatArray,
    FluidLimit,
    MixSamples,
    ReplicaLimits,
    alone_s,
    analytic_capacity_rps,
    fluid_limit,
)
from planner.demand import Demand, WorkloadDemand
from planner.dispatch import dispatch_of
from planner.fleet import Pool
from planner.memo import Memo
from planner.queues import LlmServing, Queue, Template
from planner.templates import SEQUENCE_LIMITS, Layouted, Refused
from profiles.layout import Refusal
from profiles.memory import MemoryBudget, sequence_kv_tokens

SAMPLES = 128
FINE = 16
"""Refusals and the bound look at so many times more samples than the capacity search."""
KEPT_PER_FOOTPRINT = 2
NO_CACHE_TOKENS = 10_000_000
"""KV tokens of a model that keeps none: more than any batch could ask for."""
SETTINGS_COPIES = 2
"""Copies at which engine settings are compared: the best settings hardly move with the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Demands served together in the proportion of their rates, with samples of their requests: `samples` for the
    capacity search, `fine` (which holds them) for what must be judged sharply.
    """

    name: str
    model: str
    parts: tuple[tuple[int, float], ...]
    workloads: tuple[int, ...]
    rate_rps: float
    samples: MixSamples
    fine: MixSamples
    balanced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A workload that a layout cannot serve even alone: the best it could do against the limit."""

    workload: int
    template: str
    limit: str
    """ttft_ms, tpot_ms or e2e_ms."""
    needed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Queues that can be bought, and why others cannot."""

    queues: tuple[Queue, ...]
    refused: tuple[Refused, ...]
    misses: tuple[Miss, ...]


def mixes(workloads: Sequence[WorkloadDemand], demands: Sequence[Demand], rng: np.random.Generator) -> list[Mix]:
    """The mixes worth a queue: each workload whole, each of its length classes, all workloads of one model together.

    Best-effort work gets queues of its own only.
    """
    found = []
    for workload in workloads:
        found.append(_mix(workload.name, [workload], list(workload.classes), demands, rng))
        if len(workload.classes) > 1:
            for position, index in enumerate(workload.classes):
                found.append(_mix(f"{workload.name}.{position}", [workload], [index], demands, rng))
    for model in sorted({w.model for w in workloads}):
        together = [w for w in workloads if w.model == model and not w.best_effort]
        routers = {w.router for w in together}
        if len(together) > 1 and len(routers) == 1:
            classes = [c for w in together for c in w.classes]
            found.append(_mix("+".join(w.name for w in together), together, classes, demands, rng))
    return found


def _mix(
    name: str,
    workloads: Sequence[WorkloadDemand],
    classes: Sequence[int],
    demands: Sequence[Demand],
    rng: np.random.Generator,
) -> Mix:
    rates = np.array([demands[c].rate_rps for c in classes])
    total = float(rates.sum())
    by_index = {w.index: w for w in workloads}
    rows = []
    for index, rate in zip(classes, rates, strict=True):
        demand = demands[index]
        workload = by_index[demand.workload]
        count = FINE * max(16, round(SAMPLES * rate / total))
        lengths, _ = workload.traffic.lengths.restricted(demand.low_tokens, demand.high_tokens)
        inputs, outputs = lengths.sample(count, rng)
        row = np.empty((count, 7))
        row[:, kernel.IN_TOKENS] = inputs
        row[:, kernel.COMPUTED_TOKENS] = np.maximum(1, inputs - np.floor(inputs * workload.cached_fraction))
        row[:, kernel.OUT_TOKENS] = outputs
        row[:, kernel.TTFT_SLO_S] = workload.slo.ttft_s
        row[:, kernel.TPOT_SLO_S] = workload.slo.tpot_s
        row[:, kernel.E2E_SLO_S] = workload.slo.e2e_s
        row[:, kernel.GROUP] = workloads.index(workload)
        rows.append(row)
    return Mix(
        name=name,
        model=workloads[0].model,
        parts=tuple((index, float(rate / total)) for index, rate in zip(classes, rates, strict=True)),
        workloads=tuple(w.index for w in workloads),
        rate_rps=total,
        samples=_samples([row[::FINE] for row in rows], workloads),
        fine=_samples(rows, workloads),
        balanced=workloads[0].router != "round_robin",
    )


def _samples(rows: Sequence[np.ndarray[Any, np.dtype[np.float64]]], workloads: Sequence[WorkloadDemand]) -> MixSamples:
    return MixSamples(
        matrix=np.concatenate(rows),
        targets=np.array([w.attainment for w in workloads]),
        arrival_cv=max(w.traffic.arrival_cv for w in workloads),
    )


def llm_queues(layouted: Sequence[Layouted], mix: Mix, settings: "Memo[Settled]") -> tuple[list[Queue], list[Miss]]:
    """The best queues for a mix, unnumbered (index −1), and the layouts that miss a limit even for one request."""
    found: list[Queue] = []
    misses: list[Miss] = []
    for one in layouted:
        if one.model.name != mix.model:
            continue
        settled = settings.answer(_question(one, mix), partial(_settled, one, mix))
        misses.extend(settled.misses)
        if settled.best is not None and settled.fluid is not None:
            found.append(_queue(one, mix, settled.best, settled.fluid))
    return _best_per_footprint(found), misses


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Engine settings with their estimated capacity a copy."""

    capacity_rps: float
    limits: ReplicaLimits
    budget: MemoryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a layout does best with a mix at any rate: the limits that it misses even for one request, else settings."""

    misses: tuple[Miss, ...]
    fluid: FluidLimit | None = None
    best: _Chosen | None = None


def _question(one: Layouted, mix: Mix) -> tuple[Any, ...]:
    """All that the settings depend on: not rates nor prices, so that plans that differ in them share the answer."""
    hardware = (one.id, one.pool.gpu, one.model, one.layout, one.engine, one.table)
    return (*hardware, mix.workloads, mix.balanced, mix.samples, mix.fine)


def _settled(one: Layouted, mix: Mix) -> Settled:
    misses = _misses_alone(one, mix)
    if misses:
        return Settled(misses=tuple(misses))
    fluid = _fluid_limit(one, mix)
    return Settled(misses=(), fluid=fluid, best=_best_settings(one, mix, fluid.rate_rps))


def _limits(one: Layouted, mix: Mix, budget: MemoryBudget, seqs: int, tokens: int) -> ReplicaLimits:
    columns = mix.samples.matrix
    context = columns[:, kernel.IN_TOKENS] + columns[:, kernel.OUT_TOKENS]
    # With sliding windows a sequence holds fewer full tokens than its length: count the cache in lengths of this mix.
    held = np.array([sequence_kv_tokens(one.model.architecture, int(c)) for c in context])
    cache_tokens = budget.usable_kv_tokens * context.sum() / held.sum()
    if budget.kv_bytes_per_token == 0:
        cache_tokens = NO_CACHE_TOKENS
    return ReplicaLimits(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=one.model.max_model_len,
        kv_tokens=int(cache_tokens),
        embed=one.model.architecture.kind == "embed",
        dispatch=dispatch_of(one.engine, one.model.architecture),
        balanced=mix.balanced,
    )


def _misses_alone(one: Layouted, mix: Mix) -> list[Miss]:
    ttft, tpot = _quickest_alone(one, mix)
    columns = mix.fine.matrix
    e2e = ttft + np.where(np.isnan(tpot), 0.0, tpot * (columns[:, kernel.OUT_TOKENS] - 1))
    found = []
    for group, workload in enumerate(mix.workloads):
        mine = columns[:, kernel.GROUP] == group
        target = float(mix.fine.targets[group])
        # Samples are not the traffic: a layout is refused only where chance does not explain the miss.
        doubt = 2.0 * np.sqrt(target * (1.0 - target) / np.count_nonzero(mine))
        for limit, values, column in (
            ("ttft_ms", ttft, kernel.TTFT_SLO_S),
            ("tpot_ms", np.nan_to_num(tpot), kernel.TPOT_SLO_S),
            ("e2e_ms", e2e, kernel.E2E_SLO_S),
        ):
            if float(np.mean(values[mine] <= columns[mine, column])) < target - doubt:
                needed = float(np.quantile(values[mine], target, method="higher"))
                found.append(Miss(workload=workload, template=one.id, limit=limit, needed_s=needed))
    return found


def _quickest_alone(one: Layouted, mix: Mix) -> tuple[FloatArray, FloatArray]:
    """The least (TTFT, TPOT) in seconds that any token budget gives a request alone: pipelines gain from chunks."""
    found = []
    for tokens in one.token_budgets:
        budget = one.budget(SEQUENCE_LIMITS[0], tokens)
        if not isinstance(budget, Refusal):
            found.append(alone_s(one.packed, _limits(one, mix, budget, SEQUENCE_LIMITS[0], tokens), mix.fine))
    ttft, tpot = zip(*found, strict=True)
    return np.minimum.reduce(ttft), np.minimum.reduce(tpot)


def _best_settings(one: Layouted, mix: Mix, ceiling_rps: float) -> _Chosen | None:
    """The token budget and sequence limit of largest analytic capacity; None if no setting fits."""
    best: _Chosen | None = None
    for tokens in one.token_budgets:
        best = _better(best, _tried(one, mix, (min(256, tokens), tokens), ceiling_rps))
    if best is not None:
        tokens = best.limits.max_num_batched_tokens
        for seqs in SEQUENCE_LIMITS:
            if seqs <= tokens:
                best = _better(best, _tried(one, mix, (seqs, tokens), ceiling_rps))
    return best


def _queue(one: Layouted, mix: Mix, best: _Chosen, fluid: FluidLimit) -> Queue:
    analytic = _by_copies(one, mix, best.limits, fluid.rate_rps)
    return Queue(
        index=-1,
        id=f"{mix.name}@{one.id}",
        template=_template(one, best.limits, best.budget),
        parts=mix.parts,
        analytic_rps=analytic,
        fluid_rps=fluid.rate_rps,
        exchange=tuple((w, float(e), float(e)) for w, e in zip(mix.workloads, fluid.exchange, strict=True)),
        max_copies=most_copies(one.pool, one.layout.tp * one.layout.pp, mix, analytic),
    )


def _fluid_limit(one: Layouted, mix: Mix) -> FluidLimit:
    """The fluid limit over every setting of the grid: most sequences, largest step, and the KV of the smallest."""
    budget = one.budget(SEQUENCE_LIMITS[0], one.token_budgets[0])
    if isinstance(budget, Refusal):
        raise ValueError(f"{one.id} does not fit at the smallest settings: it is no layout that runs")
    return fluid_limit(one.table, _limits(one, mix, budget, SEQUENCE_LIMITS[-1], one.token_budgets[-1]), mix.fine)


def _tried(one: Layouted, mix: Mix, settings: tuple[int, int], fluid: float) -> _Chosen | None:
    budget = one.budget(*settings)
    if isinstance(budget, Refusal):
        return None
    limits = _limits(one, mix, budget, *settings)
    capacity = analytic_capacity_rps(one.packed, limits, mix.samples, SETTINGS_COPIES, fluid)
    return _Chosen(capacity_rps=capacity, limits=limits, budget=budget)


def _better(best: _Chosen | None, other: _Chosen | None) -> _Chosen | None:
    if best is None or other is None:
        return other if best is None else best
    return other if other.capacity_rps > best.capacity_rps * (1 + 1e-9) else best


def _by_copies(one: Layouted, mix: Mix, limits: ReplicaLimits, ceiling: float) -> tuple[float, ...]:
    values = []
    largest = 0.0
    for copies in BRACKETS:
        largest = max(largest, analytic_capacity_rps(one.packed, limits, mix.samples, copies, ceiling))
        values.append(largest)
        if copies * largest > 4.0 * mix.rate_rps:
            # More copies than that are never used: the last capacity per copy stands for all of them.
            values.extend([largest] * (len(BRACKETS) - len(values)))
            break
    return tuple(values)


def most_copies(pool: Pool, size: int, mix: Mix, analytic: tuple[float, ...]) -> int:
    """Copies that could serve twice the demand (room for tightening and for survivors), as far as the pool has GPUs."""
    for copies, capacity in zip(BRACKETS, analytic, strict=True):
        if copies * capacity >= mix.rate_rps:
            return min(room_for_copies(pool, size), 2 * copies + 2)
    return room_for_copies(pool, size)


def room_for_copies(pool: Pool, size: int) -> int:
    """Copies of so many GPUs that the pool has room for."""
    if size > pool.gpus_per_node:
        return pool.max_nodes // ceil(size / pool.gpus_per_node)
    return pool.gpus_per_node // size * pool.max_nodes


def _template(one: Layouted, limits: ReplicaLimits, budget: MemoryBudget) -> Template:
    return Template(
        id=f"{one.id}/s{limits.max_num_seqs}b{limits.max_num_batched_tokens}",
        pool=one.pool,
        model=one.model.name,
        quantization=str(one.layout.quantization),
        tp=one.layout.tp,
        pp=one.layout.pp,
        ep=one.layout.ep,
        serving=LlmServing(
            architecture=one.model.architecture,
            table=one.table,
            packed=one.packed,
            limits=limits,
            memory=budget,
            block_tokens=one.engine.block_tokens,
            kv_dtype=str(one.layout.kv_dtype),
            gpu_memory_utilization=one.engine.gpu_memory_utilization,
        ),
    )


def _best_per_footprint(queues: Sequence[Queue]) -> list[Queue]:
    """The best few of each pool and GPU footprint, by capacity at a couple of copies.

    Each carries the largest fluid limit of its footprint, so that the bound still speaks of the layouts left out. Where
    none serves anything by the estimate, one stays for the bound alone.
    """
    groups: dict[tuple[str, int], list[Queue]] = {}
    for queue in queues:
        groups.setdefault((queue.template.pool.name, queue.template.gpus), []).append(queue)
    kept: list[Queue] = []
    for group in groups.values():
        fluid = max(queue.fluid_rps for queue in group)
        exchange = widest_exchange(group)
        serving = sorted((q for q in group if q.analytic_rps[-1] > 0), key=lambda q: -q.analytic_rps[1])
        chosen = serving[:KEPT_PER_FOOTPRINT] or group[:1]
        kept.extend(replace(queue, fluid_rps=fluid, exchange=exchange) for queue in chosen)
    return kept


def widest_exchange(queues: Sequence[Queue]) -> tuple[tuple[int, float, float], ...]:
    """The exchange of queues that serve the same mix, wide enough for each of them."""
    return tuple(
        (entries[0][0], min(low for _, low, _ in entries), max(high for _, _, high in entries))
        for entries in zip(*(queue.exchange for queue in queues), strict=True)
    )


def numbered(queues: Sequence[Queue]) -> tuple[Queue, ...]:
    """The queues with their indices, in a stable order."""
    ordered = sorted(queues, key=lambda q: q.id)
    return tuple(replace(queue, index=index) for index, queue in enumerate(ordered))
