"""What one deployment does under one load: means and tails, by simulation, with the evidence of every figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.outcomes import percentiles_ms, step_evidence
from planner.plan_file import FigureEvidence, Percentiles
from planner.question import (
    IntArray,
    Question,
    Resolved,
    cell_of,
    deployment_of,
    drawn_lengths,
    memory_of,
    resolve,
)
from planner.simulate import Start, simulate_llm, simulate_llm_closed_loop
from planner.simulate_types import LlmCell, Outcome, Requests
from profiles.calibration import Calibration, Correction, corrected, find_correction, find_terms
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.layout import Refusal
from profiles.memory import MemoryBudget
from profiles.step_table import StepTable
from profiles.step_time import Deployment, KernelTime, estimate_breakdown, tabulate_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """`status` is ok, or refused with the reason; throughput counts output tokens. Latencies in milliseconds."""

    status: Literal["ok", "refused"]
    reason: str = ""
    ttft_ms: Percentiles | None = None
    tpot_ms: Percentiles | None = None
    e2e_ms: Percentiles | None = None
    throughput_tokens_per_s: float | None = None
    served_rps: float | None = None
    kv_tokens: int | None = None
    gpus: int | None = None
    preemptions: int = 0
    evidence: FigureEvidence | None = None
    breakdown: tuple[KernelTime, ...] = ()
    memory: MemoryBudget | None = None
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A question ready to be simulated, as often as wanted and with other cells."""

    question: Question
    found: Resolved
    budget: MemoryBudget
    deployment: Deployment
    cell: LlmCell
    correction: Correction | None

    def simulate(self, cell: LlmCell) -> tuple[Outcome, IntArray]:
        """(what the question's requests saw on that cell, their output tokens)."""
        question = self.question
        inputs, outputs, rng = drawn_lengths(question)
        if question.concurrency is not None:
            return simulate_llm_closed_loop(cell, inputs, outputs, question.concurrency, Start(question.start)), outputs
        gaps = rng.exponential(1.0 / float(question.rate_rps or 1.0), inputs.size)
        requests = Requests(
            arrival_s=np.cumsum(gaps),
            input_tokens=inputs,
            output_tokens=outputs,
            cached_tokens=np.zeros_like(inputs),
        )
        return simulate_llm(cell, requests), outputs


class Estimator:
    """Answers questions, calibrated or not; step tables are kept: many rows of one deployment cost little."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        self._calibration = calibration
        self._tables: dict[tuple[object, ...], StepTable] = {}

    def answer(self, question: Question) -> Estimate:
        """The estimate; a layout that cannot run is refused with its reason. ProfileError for unknown names."""
        prepared = self.prepare(question)
        if isinstance(prepared, Refusal):
            return Estimate(status="refused", reason=prepared.sentence)
        return _estimate(prepared, *prepared.simulate(prepared.cell))

    def prepare(self, question: Question) -> Prepared | Refusal:
        """What it takes to simulate the question, or why its layout cannot run. ProfileError for unknown names."""
        found = resolve(question)
        budget = memory_of(found)
        if isinstance(budget, Refusal):
            return budget
        calibration = self._checked(found.engine.name)
        gpu, digest, layout = found.gpu.name, found.model.digest, found.layout
        deployment = deployment_of(found, find_terms(calibration, gpu, digest, layout.quantization))
        correction = find_correction(calibration, gpu, digest, (layout.quantization, layout.tp, layout.pp, layout.ep))
        table = self._table(question, found, deployment)
        if correction is not None:
            table = corrected(table, correction.step_factor, correction.request_s)
        return Prepared(
            question=question,
            found=found,
            budget=budget,
            deployment=deployment,
            cell=cell_of(question, found, table, budget),
            correction=correction,
        )

    def _table(self, question: Question, found: Resolved, deployment: Deployment) -> StepTable:
        key = (question.model, question.gpu, question.engine, found.layout, found.batched)
        if key not in self._tables:
            self._tables[key] = tabulate_step(deployment)
        return self._tables[key]

    def _checked(self, engine: str) -> Calibration | None:
        if self._calibration is not None and self._calibration.engine != engine:
            raise ProfileError(
                f"the calibration was made with the engine {self._calibration.engine}, the question is about"
                f" {engine}: name a calibration of that engine."
            )
        return self._calibration


def _estimate(prepared: Prepared, outcome: Outcome, outputs: IntArray) -> Estimate:
    question, found, budget = prepared.question, prepared.found, prepared.budget
    span = outcome.makespan_s
    served = outcome.served
    batch = _typical_batch(question, outcome, found.seqs)
    breakdown = estimate_breakdown(
        prepared.deployment,
        prefill_tokens=0 if found.model.kind == "generate" else question.input_tokens,
        decode_batch=batch if found.model.kind == "generate" else 0,
        context=question.input_tokens + question.output_tokens // 2,
    )
    return Estimate(
        status="ok",
        ttft_ms=percentiles_ms([outcome.ttft_s[served]]),
        tpot_ms=percentiles_ms([outcome.tpot_s[served]]),
        e2e_ms=percentiles_ms([outcome.e2e_s[served]]),
        throughput_tokens_per_s=float(outputs[served].sum() / span) if span > 0 else 0.0,
        served_rps=float(served.sum() / span) if span > 0 else 0.0,
        kv_tokens=budget.usable_kv_tokens,
        gpus=prepared.deployment.gpus,
        preemptions=outcome.preemptions,
        evidence=evidence_of(prepared.cell.table, outcome),
        breakdown=_corrected(breakdown, prepared.correction),
        memory=budget,
        assumptions=(
            f"max_num_seqs {found.seqs}, max_num_batched_tokens {found.batched}",
            _terms_text(prepared),
            f"KV cache in {found.layout.kv_dtype}",
            *found.assumptions,
        ),
    )


def _corrected(breakdown: Sequence[KernelTime], correction: Correction | None) -> tuple[KernelTime, ...]:
    """The breakdown as the corrected step table has it: every part longer by the same factor, and fitted."""
    if correction is None:
        return tuple(breakdown)
    return tuple((name, seconds * correction.step_factor, Evidence.FITTED) for name, seconds, _ in breakdown)


def _terms_text(prepared: Prepared) -> str:
    """Which engine terms were taken, and how far predictions by them were off."""
    found = prepared.found
    text = f"engine terms of {found.engine.name} {found.engine.version}"
    if prepared.deployment.terms is not None:
        return f"{text}, fitted on the runs of the calibration"
    terms = found.engine.terms_for(found.gpu, found.model, found.layout.quantization)
    if terms.fit is None:
        return text
    ttft, tpot = terms.fit.ttft_median_error_fraction, terms.fit.tpot_median_error_fraction
    off = f"{tpot:.1%} off in TPOT and {ttft:.1%} in TTFT (medians)"
    if terms.model is None:
        return f"{text} common to all models: for models left out of their fit they were {off}"
    return f"{text} fitted on {terms.fit.runs} runs of {terms.model}, for which they are {off}"


def _typical_batch(question: Question, outcome: Outcome, seqs: int) -> int:
    """Sequences that run together on average on one attention rank (Little's law), at least 1."""
    if question.concurrency is not None:
        return max(1, min(seqs, question.concurrency // question.attention_dp))
    served = outcome.served
    residence = float(np.mean(outcome.e2e_s[served])) if served.any() else 0.0
    return max(1, min(seqs, round(float(question.rate_rps or 0.0) * residence / question.attention_dp)))


def evidence_of(table: StepTable, outcome: Outcome) -> FigureEvidence:
    """Shares of the simulated step time in each class of evidence."""
    total = step_evidence(table, outcome)
    return FigureEvidence(headline=total.headline, shares={e: round(f, 6) for e, f in total.fractions.items()})
