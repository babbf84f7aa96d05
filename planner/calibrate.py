"""`muxplan calibrate`: from a check to the corrections that the next plan takes."""

import datetime
from dataclasses import dataclass, replace

import numpy as np

from planner.check.compare import llm_cell
from planner.check.remeasure import with_steps
from planner.check.result import CheckResult, GroupCheck
from planner.check.result import Requests as Checked
from planner.mix_build import Market
from planner.queues import LlmServing, Queue
from planner.simulate import simulate_llm
from planner.simulate_types import FloatArray, LlmCell, Requests
from profiles.calibration import Calibration, Correction, corrected
from profiles.catalogue_files import Provenance
from profiles.errors import ProfileError
from profiles.measured_steps import DeviceProfile
from profiles.precision import Quantization

DOUBT_REQUESTS = 20
"""A correction that rests on so many requests is believed by half."""
FACTOR_RANGE = (0.1, 10.0)
HALVINGS = 30
TTFT_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    step_factor: float
    request_s: float
    requests: int


def remeasured_profile(check: CheckResult, market: Market) -> DeviceProfile:
    """The plan's device with the steps that the check measured between its windows. ProfileError when it measured
    none, or more than one device.
    """
    queues = {q.id: q for q in market.queues}
    steps = {g.queue: g.steps for g in check.groups.values() if g.steps is not None and g.queue in queues}
    if not steps:
        raise ProfileError("the check measured no steps between its windows: check again with --remeasure.")
    devices = {gpu.name: gpu for gpu in (queues[name].template.pool.gpu for name in steps)}
    if len(devices) > 1:
        raise ProfileError(f"the check measured steps of {len(devices)} devices: a profile is of one.")
    engine, _, version = check.engine.partition(" ")
    return DeviceProfile(
        gpu=next(iter(devices.values())),
        engine=engine,
        engine_version=version,
        steps=tuple(steps.values()),
        sources=(
            Provenance(
                source=f"muxplan check --remeasure of {check.plan} on {check.engine}",
                date=datetime.date.today(),
                covers=("steps",),
            ),
        ),
    )


def with_profile(market: Market, check: CheckResult) -> Market:
    """The market with the steps that the check measured between its windows."""
    steps = {g.queue: g.steps for g in check.groups.values() if g.steps is not None}
    return replace(market, queues=tuple(with_steps(q, steps[q.id]) if q.id in steps else q for q in market.queues))


def calibrate(check: CheckResult, market: Market, engine: str) -> Calibration:
    """Corrections for every deployment that the check measured, on top of those that the plan was made with.

    ProfileError when it measured nothing. `market` is that of the checked plan.
    """
    queues = {q.id: q for q in market.queues}
    pooled: dict[str, list[_Found]] = {}
    for group in check.groups.values():
        queue = queues.get(group.queue)
        if queue is None:
            raise ProfileError(f"the check has the queue {group.queue[:80]}, which the plan does not: is it another's?")
        found = _found(queue, group)
        if found is not None:
            pooled.setdefault(queue.id, []).append(found)
    if not pooled:
        raise ProfileError("the check measured no group with enough answers: there is nothing to calibrate with.")
    in_force = next((q.template.pool.calibration for q in market.queues if q.template.pool.calibration), None)
    return Calibration(
        engine=engine,
        terms=in_force.terms if in_force else (),
        corrections=tuple(_correction(queues[name], some) for name, some in pooled.items()),
        sources=(
            Provenance(
                source=f"muxplan check of {check.plan} on {check.engine}",
                date=datetime.date.today(),
                covers=("corrections",),
            ),
        ),
    )


def _found(queue: Queue, group: GroupCheck) -> _Found | None:
    """What makes the simulator's medians those that were measured for one group's requests."""
    requests = group.requests
    ttft, tpot = _medians(_array(requests.ttft_s), _array(requests.tpot_s))
    if np.isnan(ttft):
        return None
    cell = llm_cell(queue)
    factor = 1.0 if np.isnan(tpot) else _factor(cell, requests, tpot)
    extra_s = 0.0
    for _ in range(TTFT_ROUNDS):
        extra_s += ttft - _simulated(cell, requests, factor, extra_s)[0]
    served = sum(1 for value in requests.ttft_s if value is not None)
    return _Found(step_factor=factor, request_s=extra_s, requests=served)


def _factor(cell: LlmCell, requests: Checked, tpot_s: float) -> float:
    """The step factor at which the median TPOT is `tpot_s`: it rises with the factor, so halving finds it."""
    low, high = np.log(FACTOR_RANGE)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if _simulated(cell, requests, float(np.exp(middle)), 0.0)[1] < tpot_s:
            low = middle
        else:
            high = middle
    return float(np.exp(0.5 * (low + high)))


def _simulated(cell: LlmCell, requests: Checked, factor: float, extra_s: float) -> tuple[float, float]:
    """(median TTFT, median TPOT) in seconds, of the requests that were answered in the check."""
    inputs = np.array(requests.input_tokens, dtype=np.int64)
    outcome = simulate_llm(
        replace(cell, table=corrected(cell.table, factor, extra_s)),
        Requests(
            arrival_s=np.array(requests.due_s),
            input_tokens=inputs,
            output_tokens=np.array(requests.output_tokens, dtype=np.int64),
            cached_tokens=np.zeros_like(inputs),
        ),
    )
    answered = outcome.served & ~np.isnan(_array(requests.ttft_s))
    return _medians(np.where(answered, outcome.ttft_s, np.nan), np.where(answered, outcome.tpot_s, np.nan))


def _array(values: tuple[float | None, ...]) -> FloatArray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _medians(ttft_s: FloatArray, tpot_s: FloatArray) -> tuple[float, float]:
    ttft, tpot = ttft_s[~np.isnan(ttft_s)], tpot_s[~np.isnan(tpot_s)]
    return (
        float(np.median(ttft)) if ttft.size else float("nan"),
        float(np.median(tpot)) if tpot.size else float("nan"),
    )


def _correction(queue: Queue, found: list[_Found]) -> Correction:
    """Groups of one queue together, shrunk towards no correction, on top of the one in force."""
    serving, template = queue.template.serving, queue.template
    assert isinstance(serving, LlmServing)
    weights = np.array([one.requests for one in found], dtype=float)
    belief = weights.sum() / (weights.sum() + DOUBT_REQUESTS)
    log_factor = belief * float(np.average(np.log([one.step_factor for one in found]), weights=weights))
    extra_s = belief * float(np.average([one.request_s for one in found], weights=weights))
    before = template.correction
    return Correction(
        gpu=template.pool.gpu.name,
        model_digest=serving.architecture.digest,
        quantization=Quantization(template.quantization),
        tp=template.tp,
        pp=template.pp,
        ep=template.ep,
        step_factor=round(float(np.exp(log_factor)) * (before.step_factor if before else 1.0), 6),
        request_s=round(extra_s + (before.request_s if before else 0.0), 6),
        requests=int(weights.sum()) + (before.requests if before else 0),
    )
