"""What a replica can serve: the analytic capacity that seeds the search, and the fluid limit that bounds it.

Both speak of a *mix*: sampled requests with their own limits (`MixSamples`). The analytic capacity is an estimate that
simulation tightens; the fluid limit is a rate that no scheduling of that mix on that replica can exceed (F0).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from planner import capacity_kernel as kernel
from planner.simulate_types import AS_VLLM, Dispatch
from profiles.step_table import PREFILL_GRID_TOKENS, StepTable

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
    dispatch: Dispatch = AS_VLLM
    """How the engine fills its steps, for the simulation; the capacity model takes all engines to cut prompts."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FluidLimit:
    """`rate_rps`: offered requests/s of the mix per copy of which every group's target share can attain, at most.

    `exchange[g]`: by how much the busy time of a request of the mix falls, relatively, for each fraction of group g's
    requests that misses beyond 1 − target (the cost of the request at the target's quantile ÷ the mean cost).
    """

    rate_rps: float
    exchange: FloatArray


def fluid_limit(table: StepTable, limits: ReplicaLimits, samples: MixSamples) -> FluidLimit:
    """The rate per copy that no scheduling exceeds (up to twice the standard error of the sampled mean cost).

    Busy time: a step with b decodes and x prefill tokens takes at least A + B·(b + x) for every line (A >= 0, B) under
    the cost of a step, plus the cheapest attention per KV token; and a request takes at least its share of the
    steps that memory, max_num_seqs or the TPOT limit (a step must not outlast it on average) leave it. The serial front
    end and the time that a request keeps its place in the batch are further limits. The costliest 1 − target of the
    requests are left out. ValueError where the table does not reach up to the largest step.
    """
    if limits.max_num_batched_tokens >= table.linear_s.size:
        raise ValueError(f"steps of {limits.max_num_batched_tokens} tokens are beyond the table")
    best = FluidLimit(rate_rps=float("inf"), exchange=np.ones(samples.targets.size))
    for cost_s in request_costs_s(table, limits, samples):
        limit = _cheapest(cost_s, samples)
        if limit.rate_rps < best.rate_rps:
            best = limit
    return best


def request_costs_s(table: StepTable, limits: ReplicaLimits, samples: MixSamples) -> Iterator[FloatArray]:
    """Seconds of a copy that every request takes at least, shape (samples,): one array for each way to count them.

    Requests that attain, served by one copy, take at least their sum, whatever the schedule.
    """
    columns = samples.matrix
    tokens = columns[:, kernel.COMPUTED_TOKENS]
    outputs = np.zeros(tokens.size) if limits.embed else columns[:, kernel.OUT_TOKENS] - 1.0
    attention = _decode_attention_s(table, columns, outputs)
    prefill = min(1.0, table.prefill_factor) * _prefill_attention(table, columns)
    lines = _lines_under(table)
    for steps in _steps(table, limits, samples, lines):
        for step_s, token_s in lines:
            yield steps * step_s + token_s * (outputs + tokens) + attention + prefill
    for place in _places(limits, columns, outputs):
        for step_s, token_s in lines:
            # A token is sampled when its step has left the last stage: so long nobody else has the place.
            yield place * table.stages * (outputs * (step_s + token_s) + attention)
    answers = np.zeros(tokens.size) if limits.embed else columns[:, kernel.OUT_TOKENS]
    yield (
        table.front_end_request_s
        + table.front_end_input_token_s * columns[:, kernel.IN_TOKENS]
        + table.front_end_output_token_s * answers
    )


def _steps(
    table: StepTable, limits: ReplicaLimits, samples: MixSamples, lines: list[tuple[float, float]]
) -> list[FloatArray]:
    """Steps of a stage that a request takes at least: its token's share of a batch as large as each limit allows.

    Of two steps in a row either both are in the pipeline together, and share the places, or the stage idles for at
    least a step between them. More stages than two promise no more: short steps may fill the gaps between long ones.
    """
    columns = samples.matrix
    if limits.embed:
        return [columns[:, kernel.COMPUTED_TOKENS] / limits.max_num_batched_tokens]
    outputs = columns[:, kernel.OUT_TOKENS] - 1.0
    shared = min(table.stages, 2)
    return [
        *(shared * outputs * place for place in _places(limits, columns, outputs)),
        outputs / _batch_within_tpot(table, samples, lines),
    ]


def _places(limits: ReplicaLimits, columns: FloatArray, outputs: FloatArray) -> list[FloatArray]:
    """The share of a copy's places (sequences, KV tokens) that a request holds while it decodes, on average."""
    if limits.embed:
        return []
    return [np.full(outputs.size, 1.0 / limits.max_num_seqs), _context(columns) / limits.kv_tokens]


def _cheapest(cost_s: FloatArray, samples: MixSamples) -> FluidLimit:
    """The limit of these costs when each group drops its costliest 1 − target."""
    groups = samples.matrix[:, kernel.GROUP].astype(int)
    kept = np.zeros(cost_s.size)
    marginal = np.zeros(samples.targets.size)
    for group, target in enumerate(samples.targets):
        mine = np.flatnonzero(groups == group)
        order = mine[np.argsort(cost_s[mine], kind="stable")]
        count = int(np.floor(target * order.size))
        kept[order[:count]] = cost_s[order[:count]]
        marginal[group] = cost_s[order[min(count, order.size - 1)]]
    mean = float(kept.mean()) - 2.0 * float(kept.std()) / np.sqrt(kept.size)
    if mean <= 0:
        return FluidLimit(rate_rps=float("inf"), exchange=np.ones(marginal.size))
    return FluidLimit(rate_rps=1.0 / mean, exchange=marginal / mean)


def _prefill_attention(table: StepTable, columns: FloatArray) -> FloatArray:
    """Seconds of prefill attention of every sample beyond its cached tokens."""
    tokens = columns[:, kernel.IN_TOKENS]
    cached = tokens - columns[:, kernel.COMPUTED_TOKENS]
    return _prompt_attention_s(table, tokens) - _prompt_attention_s(table, cached)


def _prompt_attention_s(table: StepTable, tokens: FloatArray) -> FloatArray:
    values = table.prefill_attention_s
    position = tokens / PREFILL_GRID_TOKENS
    index = np.minimum(position.astype(int), values.size - 2)
    return np.asarray(values[index] + (position - index) * (values[index + 1] - values[index]))


def _lines_under(table: StepTable) -> list[tuple[float, float]]:
    """Lines (seconds a step, seconds a token, neither negative) nowhere above the cost of a step from one token on.

    They run along its lower hull, shifted; where that would start below zero, one through the origin takes its place.
    """
    last = table.linear_s.size - 1
    points = np.unique(np.round(np.geomspace(1, last, HULL_POINTS)).astype(int))
    # The cost never falls, so between two points it is at least its value at the left one.
    x = points[1:].astype(float)
    y = table.overhead_s + min(1.0, table.prefill_factor) * table.linear_s[points[:-1]]
    hull: list[tuple[float, float]] = []
    for px, py in zip(x, y, strict=True):
        while len(hull) >= 2 and _turns_down(hull[-2], hull[-1], (px, py)):
            hull.pop()
        hull.append((px, py))
    lines = [(0.0, float(np.min(y / x)))]
    for (ax, ay), (bx, by) in pairwise(hull):
        slope = (by - ay) / (bx - ax)
        if ay - slope * ax >= 0:
            lines.append((ay - slope * ax, slope))
    return lines


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) <= 0


def _context(columns: FloatArray) -> FloatArray:
    """KV tokens that a request holds while it decodes, on average."""
    return columns[:, kernel.IN_TOKENS] + 0.5 * columns[:, kernel.OUT_TOKENS]


def _decode_attention_s(table: StepTable, columns: FloatArray, outputs: FloatArray) -> FloatArray:
    """Seconds of decode attention of every sample at the least time per KV token anywhere in the table."""
    tokens = 2.0 ** np.arange(table.decode_attention_s.shape[1])
    return outputs * _context(columns) * float(np.min(table.decode_attention_s / tokens[None, :]))


def _batch_within_tpot(table: StepTable, samples: MixSamples, lines: list[tuple[float, float]]) -> float:
    """Most decode sequences of one micro-batch whose step does not outlast the loosest TPOT limit."""
    allowed = float(np.max(samples.matrix[:, kernel.TPOT_SLO_S]))
    batch = float("inf")
    if np.isfinite(allowed):
        for step_s, token_s in lines:
            if token_s > 0:
                batch = min(batch, max(allowed / table.stages - step_s, 0.0) / token_s)
    return max(batch, 1e-9)


BRACKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
"""Numbers of copies at which capacity is tabulated; between two of them the lower one's capacity per copy is used."""
