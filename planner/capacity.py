"""What a replica can serve: the analytic capacity that seeds the search, and the fluid limit that bounds it.

Both speak of a *mix*: sampled requests with their own limits (`MixSamples`). The analytic capacity is an estimate that
simulation tightens; the fluid limit is a rate that no scheduling of that mix on that replica can exceed (F0).
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from planner import capacity_kernel as kernel
from planner.step_lookup_kernel import prefill_attention_s
from profiles.step_table import StepTable

FloatArray = NDArray[np.float64]
HULL_POINTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSamples:
    """Requests that stand for a mix, equally likely. `matrix` has the columns of `capacity_kernel` (SLOs inf if none).

    `targets[g]`: the attainment that group g (a workload) needs. `arrival_cv`: of the gaps between arrivals.
    """

    matrix: FloatArray
    targets: FloatArray
    arrival_cv: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaLimits:
    """Engine settings and memory of one replica that bound its batches."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    kv_tokens: int
    embed: bool = False
    balanced: bool = True
    """The router sends a request to the least loaded copy."""


class PackedTable:
    """A step table as the tuple of arrays and the vector of scalars that the kernel takes."""

    __slots__ = ("arrays", "scalars")

    def __init__(self, table: StepTable) -> None:
        self.arrays = (table.linear_s, table.decode_attention_s, table.prefill_attention_s, table.sampling_s)
        self.scalars = np.array(
            [
                table.overhead_s,
                table.prefill_factor,
                table.prefill_floor_s,
                table.stages,
                table.send_s_per_token,
                table.front_end_request_s,
                table.front_end_input_token_s,
                table.front_end_output_token_s,
                table.client_s,
                table.schedule_lag_steps,
            ],
            dtype=np.float64,
        )


def _settings(limits: ReplicaLimits, samples: MixSamples, copies: int) -> FloatArray:
    return np.array(
        [
            limits.max_num_seqs,
            limits.max_num_batched_tokens,
            limits.kv_tokens,
            limits.max_model_len,
            copies,
            samples.arrival_cv,
            1.0 if limits.balanced else 0.0,
            1.0 if limits.embed else 0.0,
        ],
        dtype=np.float64,
    )


def analytic_capacity_rps(
    packed: PackedTable, limits: ReplicaLimits, samples: MixSamples, copies: int, ceiling_rps: float
) -> float:
    """Estimated largest rate per copy, requests/s of the mix, at which every group still attains its target."""
    settings = _settings(limits, samples, copies)
    return float(
        kernel.largest_rate(packed.arrays, packed.scalars, settings, samples.matrix, samples.targets, ceiling_rps)
    )


def alone_s(packed: PackedTable, limits: ReplicaLimits, samples: MixSamples) -> tuple[FloatArray, FloatArray]:
    """(TTFT, TPOT) in seconds of every sample served alone on a replica; no schedule gives less."""
    ttft, tpot = kernel.alone_s(packed.arrays, packed.scalars, _settings(limits, samples, 1), samples.matrix)
    return ttft, tpot


def fluid_capacity_rps(table: StepTable, limits: ReplicaLimits, samples: MixSamples) -> float:
    """A rate per copy that no scheduling exceeds: offered requests/s, of which each group's target share attains.

    Busy time: a step with b decodes and x prefill tokens takes at least overhead + A + B·(b + x) for every line (A, B)
    under the linear cost, plus the cheapest attention per KV token; b is capped by memory, by max_num_seqs, and by the
    TPOT limit (a step must not outlast it on average). The serial front end is a second limit. The costliest
    1 − target of the requests are left out.
    """
    factor = min(1.0, table.prefill_factor)
    lines = _lines_under(table)
    columns = samples.matrix
    outputs = np.where(limits.embed, 0.0, columns[:, kernel.OUT_TOKENS] - 1.0)
    context = columns[:, kernel.IN_TOKENS] + 0.5 * columns[:, kernel.OUT_TOKENS]
    kv_cost = _decode_s_per_kv_token(table)
    batch = _largest_batch(table, limits, samples, lines)
    attention = _prefill_attention(table, columns)
    fixed = factor * attention + outputs * context * kv_cost
    busy = np.zeros(columns.shape[0])
    for intercept, slope in lines:
        decode = outputs * ((table.overhead_s + factor * intercept) / batch + factor * slope)
        prefill = columns[:, kernel.COMPUTED_TOKENS] * factor * slope
        if limits.embed:
            steps = columns[:, kernel.COMPUTED_TOKENS] / limits.max_num_batched_tokens
            prefill = prefill + steps * (table.overhead_s + factor * intercept)
        busy = np.maximum(busy, _cheapest_mean(decode + prefill + fixed, samples))
    front = (
        table.front_end_request_s
        + table.front_end_input_token_s * columns[:, kernel.IN_TOKENS]
        + table.front_end_output_token_s * columns[:, kernel.OUT_TOKENS]
    )
    mean = max(float(np.max(busy)), _cheapest_mean(front, samples))
    return 1.0 / mean if mean > 0 else float("inf")


def _cheapest_mean(cost_s: FloatArray, samples: MixSamples) -> float:
    """Mean cost per offered request when each group drops its costliest 1 − target."""
    groups = samples.matrix[:, kernel.GROUP].astype(int)
    total = 0.0
    for group, target in enumerate(samples.targets):
        costs = np.sort(cost_s[groups == group])
        total += float(costs[: int(np.floor(target * costs.size))].sum())
    return total / cost_s.size


def _prefill_attention(table: StepTable, columns: FloatArray) -> FloatArray:
    """Seconds of prefill attention of every sample beyond its cached tokens."""
    tokens = columns[:, kernel.IN_TOKENS]
    cached = tokens - columns[:, kernel.COMPUTED_TOKENS]
    values = table.prefill_attention_s
    whole = np.array([prefill_attention_s(values, float(t)) for t in tokens])
    skipped = np.array([prefill_attention_s(values, float(t)) for t in cached])
    return np.asarray(whole - skipped)


def _lines_under(table: StepTable) -> list[tuple[float, float]]:
    """Lines (seconds, seconds per token) nowhere above the linear cost from one token on: its lower hull, shifted."""
    last = table.linear_s.size - 1
    points = np.unique(np.round(np.geomspace(1, last, HULL_POINTS)).astype(int))
    # The cost never falls, so between two points it is at least its value at the left one.
    x = points[1:].astype(float)
    y = table.linear_s[points[:-1]]
    hull: list[tuple[float, float]] = []
    for px, py in zip(x, y, strict=True):
        while len(hull) >= 2 and _turns_down(hull[-2], hull[-1], (px, py)):
            hull.pop()
        hull.append((px, py))
    lines = []
    for (ax, ay), (bx, by) in pairwise(hull):
        slope = (by - ay) / (bx - ax)
        lines.append((ay - slope * ax, slope))
    return lines


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


def _decode_s_per_kv_token(table: StepTable) -> float:
    """The least decode attention time per KV token anywhere in the table."""
    tokens = 2.0 ** np.arange(table.decode_attention_s.shape[1])
    return float(np.min(table.decode_attention_s / tokens[None, :]))


def _largest_batch(
    table: StepTable, limits: ReplicaLimits, samples: MixSamples, lines: list[tuple[float, float]]
) -> float:
    """Most decode sequences of one micro-batch that memory, settings and the loosest TPOT limit allow."""
    columns = samples.matrix
    stages = table.stages
    weights = np.maximum(columns[:, kernel.OUT_TOKENS] - 1.0, 0.0)
    batch = limits.max_num_seqs / stages
    if weights.sum() > 0:
        context = columns[:, kernel.IN_TOKENS] + 0.5 * columns[:, kernel.OUT_TOKENS]
        order = np.argsort(context)
        kept = order[: max(1, int(np.floor(float(samples.targets.min()) * order.size)))]
        if weights[kept].sum() > 0:
            mean_context = float(np.average(context[kept], weights=weights[kept]))
            batch = min(batch, limits.kv_tokens / mean_context / stages)
    allowed = float(np.max(columns[:, kernel.TPOT_SLO_S]))
    if np.isfinite(allowed):
        for intercept, slope in lines:
            if slope > 0:
                factor = min(1.0, table.prefill_factor)
                room = allowed / stages - table.overhead_s - factor * intercept
                batch = min(batch, max(room, 0.0) / (factor * slope))
    return max(batch, 1e-9)


BRACKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
"""Numbers of copies at which capacity is tabulated; between two of them the lower one's capacity per copy is used."""
