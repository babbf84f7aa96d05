"""Queues of models known only by measurement: a latency table (simulated), or a capacity table (taken as given)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner import capacity_kernel as kernel
from planner.capacity import BRACKETS
from planner.fleet import Pool
from planner.queue_build import Miss, Mix, most_copies
from planner.queues import CapacityServing, LatencyServing, Queue, Serving, Template
from planner.templates import Refused
from profiles.capacity_table import CapacityTable
from profiles.latency_table import LatencyTable
from profiles.units import GIB

LatencyTables = Mapping[tuple[str, int, int], LatencyTable]
RESERVE_BYTES = 1 * GIB
"""Kept free on every GPU for the runtime of a measured model; its table does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a measured template says of itself."""

    label: str
    tp: int
    pp: int
    serving: Serving


def latency_queues(
    tables: LatencyTables, pools: Sequence[Pool], mix: Mix, fixed_overhead_s: float
) -> tuple[list[Queue], list[Refused], list[Miss]]:
    """Queues of a latency-table model on every pool whose GPU the table names."""
    found: list[Queue] = []
    refused: list[Refused] = []
    misses: list[Miss] = []
    tightest = int(mix.samples.matrix[:, kernel.E2E_SLO_S].argmin())
    deadline = float(mix.samples.matrix[tightest, kernel.E2E_SLO_S])
    owner = mix.workloads[int(mix.samples.matrix[tightest, kernel.GROUP])]
    for pool in pools:
        for (gpu, tp, pp), table in sorted(tables.items()):
            if gpu != pool.gpu.name:
                continue
            name = f"{pool.name}/{mix.model}/measured/tp{tp}pp{pp}ep1"
            weight = int(table.weight_bytes.max())
            if weight + RESERVE_BYTES > pool.gpu.visible_memory_bytes:
                sentence = f"{mix.model} needs {weight / GIB:.1f} GiB a GPU; {gpu} shows less."
                refused.append(Refused(template=name, model=mix.model, pool=pool.name, sentence=sentence))
                continue
            queue = _latency_queue(name, pool, table, mix, fixed_overhead_s)
            alone = float(table.latency_s(1).sum()) + fixed_overhead_s
            if alone > deadline:
                misses.append(Miss(workload=owner, template=name, limit="e2e_ms", needed_s=alone))
            elif queue is not None:
                found.append(queue)
    return found, refused, misses


def _latency_queue(name: str, pool: Pool, table: LatencyTable, mix: Mix, fixed_overhead_s: float) -> Queue | None:
    """Rate of a batch b: b ÷ the slowest stage, where a request that waits for one batch still meets the deadline."""
    deadlines = mix.samples.matrix[:, kernel.E2E_SLO_S]
    deadline = float(deadlines.min())
    analytic, fluid, chosen = 0.0, 0.0, 1
    for batch in table.batch_sizes.tolist():
        stages = table.latency_s(batch)
        rate = batch / float(stages.max())
        if float(stages.sum()) + fixed_overhead_s <= float(deadlines.max()):
            # Requests of the workload with the latest deadline could fill such batches.
            fluid = max(fluid, rate)
        if float(stages.sum()) + fixed_overhead_s <= deadline:
            # A request may have to wait for one batch before its own: only then is the rate one that lasts.
            chosen = max(chosen, batch)
            if float(stages.max()) + float(stages.sum()) + fixed_overhead_s <= deadline:
                analytic = max(analytic, rate)
    if fluid <= 0:
        return None
    analytic = max(analytic, 0.5 * fluid)
    weight = int(table.weight_bytes.max())
    serving = LatencyServing(
        table=table, max_batch=chosen, fixed_overhead_s=fixed_overhead_s, memory_bytes=weight + RESERVE_BYTES
    )
    shape = Shape(label=name, tp=table.tp, pp=table.pp, serving=serving)
    # Every request that attains takes the same; as many as the target lets miss may be offered beyond that.
    attaining = float(mix.samples.targets[mix.samples.matrix[:, kernel.GROUP].astype(int)].mean())
    limit = (fluid / attaining, 1.0 / attaining)
    return _queue(shape, pool, mix, (analytic,) * len(BRACKETS), limit)


def capacity_queues(
    tables: Mapping[str, CapacityTable], pools: Sequence[Pool], mix: Mix
) -> tuple[list[Queue], list[Refused]]:
    """Queues of a capacity-table model: one GPU a copy at the rate of the buckets that its requests fall into.

    A mix of buckets uses up GPUs by request: the rate is the harmonic mean over the mix (Mélange's load).
    """
    found: list[Queue] = []
    refused: list[Refused] = []
    inputs = mix.samples.matrix[:, kernel.IN_TOKENS].astype(int)
    outputs = mix.samples.matrix[:, kernel.OUT_TOKENS].astype(int)
    for pool in pools:
        table = tables.get(pool.gpu.name)
        if table is None:
            continue
        name = f"{pool.name}/{mix.model}/given/tp1pp1ep1"
        rates = [table.capacity_rps(i, o) for i, o in zip(inputs.tolist(), outputs.tolist(), strict=True)]
        covered = np.array([r for r in rates if r])
        share = covered.size / len(rates)
        if share < max(float(mix.samples.targets.max()), 1e-9):
            sentence = f"its capacity table covers {share:.1%} of the requests of {mix.name} on {pool.gpu.name}."
            refused.append(Refused(template=name, model=mix.model, pool=pool.name, sentence=sentence))
            continue
        rate = float(1.0 / np.mean(1.0 / covered))
        shape = Shape(label=name, tp=1, pp=1, serving=CapacityServing(rate_rps=rate))
        found.append(_queue(shape, pool, mix, (rate,) * len(BRACKETS), (rate, 0.0)))
    return found, refused


def _queue(shape: Shape, pool: Pool, mix: Mix, analytic: tuple[float, ...], limit: tuple[float, float]) -> Queue:
    """`limit`: the fluid limit in requests/s, and its exchange, the same for every workload."""
    fluid, exchange = limit
    template = Template(
        id=shape.label,
        pool=pool,
        model=mix.model,
        quantization="measured",
        tp=shape.tp,
        pp=shape.pp,
        ep=1,
        serving=shape.serving,
    )
    return Queue(
        index=-1,
        id=f"{mix.name}@{shape.label}",
        template=template,
        parts=mix.parts,
        analytic_rps=analytic,
        fluid_rps=fluid,
        exchange=tuple((w, exchange, exchange) for w in mix.workloads),
        max_copies=most_copies(pool, shape.tp * shape.pp, mix, analytic),
    )
