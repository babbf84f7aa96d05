"""Predicted beside measured: the same requests through the simulator, and what to make of the difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cells import simulated_cell
from planner.check.load import CheckLoad, FloatArray
from planner.check.result import MEASURED, Figures, Remeasured, WorkloadCheck
from planner.demand import SloLimits, WorkloadDemand
from planner.outcomes import percentiles_ms
from planner.queues import LlmServing, Queue
from planner.simulate import simulate_llm
from planner.simulate_types import LlmCell, Router

TOLERANCES = {"ttft_ms": 1.5, "tpot_ms": 1.0, "e2e_ms": 1.5}
"""A TTFT holds the queue, whose wait doubles an error of the step time: it may be off by so many tolerances."""
LABELS = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "e2e"}
ATTAINMENT_POINTS = 0.10
LAG_OF_TTFT = 0.25
"""A client that is later than this share of the median TTFT has shifted what it measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """What became of requests, shape (requests,); NaN where one was not served."""

    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray

    def of(self, mine: NDArray[np.bool_]) -> "Latencies":
        """The requests where `mine` is true."""
        return Latencies(ttft_s=self.ttft_s[mine], tpot_s=self.tpot_s[mine], e2e_s=self.e2e_s[mine])


def predicted(cells: Sequence[LlmCell], load: CheckLoad) -> Latencies:
    """The requests simulated, each group by itself: `cells[g]` is that of group g. No prefix is cached."""
    found = {name: np.full(load.due_s.size, np.nan) for name in ("ttft_s", "tpot_s", "e2e_s")}
    for group, cell in enumerate(cells):
        mine = load.group == group
        if not mine.any():
            continue
        outcome = simulate_llm(cell, load.of(mine).simulated())
        for name, column in found.items():
            column[mine] = np.where(outcome.served, getattr(outcome, name), np.nan)
    return Latencies(**found)


def llm_cell(queue: Queue, copies: int = 1, router: Router = Router.ROUND_ROBIN) -> LlmCell:
    """Replicas of a queue behind one router, as the simulator takes them. ValueError for one without an engine."""
    if not isinstance(queue.template.serving, LlmServing):
        raise ValueError(f"{queue.id} runs no engine")
    cell = simulated_cell(queue, copies, router, SloLimits())
    assert isinstance(cell, LlmCell)
    return cell


def compare(
    workload: WorkloadDemand, guess: Latencies, seen: Latencies, span_s: float, tolerance_fraction: float
) -> WorkloadCheck:
    """One workload's requests as predicted and as measured over `span_s` seconds; held when within the tolerance."""
    figures = _figures(workload, guess, span_s), _figures(workload, seen, span_s)
    return judged(*figures, int(seen.e2e_s.size), tolerance_fraction)


def judged(a: Figures, b: Figures, requests: int, tolerance_fraction: float, seen: str = MEASURED) -> WorkloadCheck:
    """What was predicted (`a`) beside what was measured (`b`) of so many requests; `seen`: what to call the latter."""
    errors = _errors(a, b)
    limits = {name: limit * tolerance_fraction for name, limit in TOLERANCES.items()}
    limits["attainment"] = ATTAINMENT_POINTS
    why = [_sentence(name, e, limits[name], (a, b), seen) for name, e in errors.items() if abs(e) > limits[name]]
    if b.served_rps == 0.0:
        why.append("no request was served")
    return WorkloadCheck(
        requests=requests,
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
    for name in TOLERANCES:
        first, second = getattr(a, name), getattr(b, name)
        if first is not None and second is not None and first.p50 > 0:
            errors[name] = round(second.p50 / first.p50 - 1.0, 4)
    if a.attainment is not None and b.attainment is not None:
        errors["attainment"] = round(b.attainment - a.attainment, 4)
    return errors


def _sentence(name: str, error: float, limit: float, figures: tuple[Figures, Figures], seen: str) -> str:
    a, b = figures
    if name == "attainment":
        return f"attainment {b.attainment:.1%} {seen}, {a.attainment:.1%} predicted (allowed ± {limit:.0%} points)"
    first, second = getattr(a, name).p50, getattr(b, name).p50
    label = LABELS[name]
    return f"{label} p50 {second:.4g} ms {seen}, {first:.4g} ms predicted ({error:+.0%}, allowed ± {limit:.0%})"


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


def client_lag(lag_s: FloatArray, workloads: Mapping[str, WorkloadCheck]) -> tuple[float | None, bool]:
    """(how late the client was in ms, 99th percentile of what it sent, whether that shifted what it measured)."""
    lag_s = lag_s[~np.isnan(lag_s)]
    if not lag_s.size:
        return None, False
    lag_ms = round(1000.0 * float(np.percentile(lag_s, 99)), 3)
    medians = [w.measured.ttft_ms.p50 for w in workloads.values() if w.measured.ttft_ms]
    return lag_ms, bool(medians) and lag_ms > LAG_OF_TTFT * min(medians)
