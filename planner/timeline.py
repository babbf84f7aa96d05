"""What a replayed plan did over time: waiting and running requests, tokens held, and every request's latencies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cells import CellRun
from planner.outcomes import jobs_of
from planner.replay import Replay

FloatArray = NDArray[np.float64]
POINTS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One workload over the first draw. Arrays of shape (400,) over `at_s`, and of shape (served,) for the latencies.

    `waiting`: requests before their first token; `running`: those after it. `tokens_held`: prompt and answer so far
    of the running ones, the answer growing evenly (what the KV cache holds of them). Latencies are NaN where the
    workload has no such quantity.
    """

    workload: str
    at_s: FloatArray
    waiting: FloatArray
    running: FloatArray
    tokens_held: FloatArray
    ttft_ms: FloatArray
    tpot_ms: FloatArray
    e2e_ms: FloatArray


def timelines(found: Replay) -> list[Timeline]:
    """One timeline a workload that was simulated, in the order of the spec."""
    runs = found.simulator.run([job for job in jobs_of(found.market, found.simulator, found.cells) if job[1] == 0])
    made = []
    for workload in found.market.workloads:
        mine = [(run, (run.workload == workload.index) & run.outcome.served) for run in runs]
        mine = [(run, which) for run, which in mine if np.any(which)]
        if mine:
            made.append(_timeline(workload.name, mine))
    return made


def _timeline(name: str, runs: list[tuple[CellRun, NDArray[np.bool_]]]) -> Timeline:
    def joined(values: list[FloatArray]) -> FloatArray:
        return np.concatenate([v[which] for v, (_, which) in zip(values, runs, strict=True)])

    arrival = joined([run.requests.arrival_s for run, _ in runs])
    ttft = joined([run.outcome.ttft_s for run, _ in runs])
    e2e = joined([run.outcome.e2e_s for run, _ in runs])
    tpot = joined([run.outcome.tpot_s for run, _ in runs])
    inputs = joined([run.requests.input_tokens.astype(float) for run, _ in runs])
    outputs = joined([run.requests.output_tokens.astype(float) for run, _ in runs])
    # A model known by its latencies only answers all at once: it waits until then.
    first = arrival + np.where(np.isfinite(ttft), ttft, e2e)
    end = arrival + e2e
    at = np.linspace(0.0, float(end.max()), POINTS)
    return Timeline(
        workload=name,
        at_s=at,
        waiting=_between(arrival, first, at),
        running=_between(first, end, at),
        tokens_held=_tokens(at, (first, end), inputs, outputs),
        ttft_ms=1e3 * ttft,
        tpot_ms=1e3 * tpot,
        e2e_ms=1e3 * e2e,
    )


def _between(start: FloatArray, end: FloatArray, at: FloatArray) -> FloatArray:
    """How many intervals [start, end) hold each moment."""
    began = np.searchsorted(np.sort(start), at, side="right")
    ended = np.searchsorted(np.sort(end), at, side="right")
    return (began - ended).astype(float)


def _tokens(at: FloatArray, span: tuple[FloatArray, FloatArray], inputs: FloatArray, outputs: FloatArray) -> FloatArray:
    first, end = span
    length = np.maximum(end - first, 1e-12)
    held = np.zeros(at.size)
    for index, moment in enumerate(at):
        alive = (first <= moment) & (moment < end)
        grown = outputs[alive] * (moment - first[alive]) / length[alive]
        held[index] = float(np.sum(inputs[alive] + grown))
    return held
