"""Predicted beside measured: the same requests through the simulator, and what to make of the difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.cells import simulated_cell
from planner.check.load import CheckLoad, FloatArray
from planner.check.result import Figures, Remeasured, WorkloadCheck
from planner.demand import SloLimits, WorkloadDemand
from planner.outcomes import percentiles_ms
from planner.queues import LlmServing, Queue
from planner.simulate import simulate_llm
from planner.simulate_types import LlmCell, Requests, Router

TTFT_TOLERANCES = 1.5
"""A TTFT holds the queue, whose wait doubles an error of the step time: it may be off by so many tolerances."""
ATTAINMENT_POINTS = 0.10
CACHED_NOTE = "prompts of a check share no prefix: the cached fraction of the spec is not sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What became of requests, shape (requests,); NaN where one was not served."""

    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray


def predicted(queues: Sequence[Queue], load: CheckLoad) -> Latencies:
    """The requests simulated, each group by itself: `queues[g]` is that of group g. No prefix is cached."""
    found = {name: np.full(load.due_s.size, np.nan) for name in ("ttft_s", "tpot_s", "e2e_s")}
    for group, queue in enumerate(queues):
        mine = load.group == group
        if not mine.any():
            continue
        cell = llm_cell(queue)
        outcome = simulate_llm(
            cell,
            Requests(
                arrival_s=load.due_s[mine],
                input_tokens=load.input_tokens[mine],
                output_tokens=load.output_tokens[mine],
                cached_tokens=np.zeros(int(mine.sum()), dtype=np.int64),
            ),
        )
        for name, column in found.items():
            column[mine] = np.where(outcome.served, getattr(outcome, name), np.nan)
    return Latencies(**found)


def llm_cell(queue: Queue) -> LlmCell:
    """One replica of a queue, as the simulator takes it."""
    if not isinstance(queue.template.serving, LlmServing):
        raise ValueError(f"{queue.id} runs no engine")
    cell = simulated_cell(queue, 1, Router.ROUND_ROBIN, SloLimits())
    assert isinstance(cell, LlmCell)
    return cell


def compare(
    workload: WorkloadDemand, guess: Latencies, seen: Latencies, span_s: float, tolerance_fraction: float
) -> WorkloadCheck:
    """One workload's requests as predicted and as measured over `span_s` seconds; held when within the tolerance."""
    a, b = _figures(workload, guess, span_s), _figures(workload, seen, span_s)
    errors = _errors(a, b)
    limits = {
        "ttft_ms": TTFT_TOLERANCES * tolerance_fraction,
        "tpot_ms": tolerance_fraction,
        "attainment": ATTAINMENT_POINTS,
    }
    why = [_sentence(name, e, limits[name], a, b) for name, e in errors.items() if abs(e) > limits[name]]
    if b.served_rps == 0.0:
        why.append("no request was served")
    return WorkloadCheck(
        requests=int(seen.e2e_s.size),
        predicted=a,
        measured=b,
        error_fraction=errors,
        held=not why,
        why=tuple(why),
    )


def remeasured(workload: WorkloadDemand, guess: Latencies, seen: Latencies, span_s: float) -> Remeasured:
    """What the steps of the check's own time predict for the same requests, and how far that is off."""
    a, b = _figures(workload, guess, span_s), _figures(workload, seen, span_s)
    return Remeasured(predicted=a, error_fraction=_errors(a, b))


def _errors(a: Figures, b: Figures) -> dict[str, float]:
    errors = {}
    for name in ("ttft_ms", "tpot_ms"):
        first, second = getattr(a, name), getattr(b, name)
        if first is not None and second is not None and first.p50 > 0:
            errors[name] = round(second.p50 / first.p50 - 1.0, 4)
    if a.attainment is not None and b.attainment is not None:
        errors["attainment"] = round(b.attainment - a.attainment, 4)
    return errors


def _sentence(name: str, error: float, limit: float, a: Figures, b: Figures) -> str:
    if name == "attainment":
        return f"attainment {b.attainment:.1%} measured, {a.attainment:.1%} predicted (allowed ± {limit:.0%} points)"
    first, second = getattr(a, name).p50, getattr(b, name).p50
    label = name.removesuffix("_ms").upper()
    return f"{label} p50 {second:.4g} ms measured, {first:.4g} ms predicted ({error:+.0%}, allowed ± {limit:.0%})"


def _figures(workload: WorkloadDemand, seen: Latencies, span_s: float) -> Figures:
    served = ~np.isnan(seen.e2e_s)
    slo = workload.slo
    met = served & (seen.ttft_s <= slo.ttft_s) & (seen.e2e_s <= slo.e2e_s)
    met &= np.isnan(seen.tpot_s) | (seen.tpot_s <= slo.tpot_s)
    return Figures(
        ttft_ms=percentiles_ms([seen.ttft_s[served]]),
        tpot_ms=percentiles_ms([seen.tpot_s[served]]),
        e2e_ms=percentiles_ms([seen.e2e_s[served]]),
        attainment=None if workload.best_effort or not met.size else round(float(met.mean()), 4),
        served_rps=round(float(served.sum()) / span_s, 4),
    )
