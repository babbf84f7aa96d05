"""What one deployment does under one load: means and tails, by simulation, with the evidence of every figure."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.outcomes import percentiles_ms, step_evidence
from planner.plan_file import FigureEvidence, Percentiles
from planner.simulate import Start, simulate_llm, simulate_llm_closed_loop
from planner.simulate_types import LlmCell, Outcome, Requests, Router
from profiles.engines import Engine, load_engine
from profiles.errors import ProfileError
from profiles.gpus import Gpu, find_gpu
from profiles.layout import Layout, Refusal
from profiles.memory import EngineMemory, MemoryBudget, memory_budget, sequence_kv_tokens
from profiles.models import ModelArchitecture, load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_table import StepTable
from profiles.step_time import Deployment, KernelTime, estimate_breakdown, tabulate_step

IntArray = NDArray[np.int64]
OPEN_LOOP_REQUESTS = 2_000
REQUESTS_PER_CLIENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One deployment and one load. Exactly one of `concurrency` and `rate_rps`; lengths uniform on [low · L, L]."""

    model: str
    gpu: str
    input_tokens: int
    output_tokens: int
    engine: str = "vllm"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    attention_dp: int = 1
    quantization: str | None = None
    concurrency: int | None = None
    rate_rps: float | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_requests: int | None = None
    length_low_fraction: float = 1.0
    start: Literal["burst", "steady"] = "burst"
    seed: int = 0


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
class Resolved:
    """A question with its names looked up."""

    model: ModelArchitecture
    gpu: Gpu
    engine: Engine
    layout: Layout
    seqs: int
    batched: int
    length: int


class Estimator:
    """Answers questions; step tables are kept, so that many rows of one deployment cost little."""

    def __init__(self) -> None:
        self._tables: dict[tuple[object, ...], StepTable] = {}

    def answer(self, question: Question) -> Estimate:
        """The estimate; a layout that cannot run is refused with its reason. ProfileError for unknown names."""
        found = _resolve(question)
        budget = _budget(found)
        if isinstance(budget, Refusal):
            return Estimate(status="refused", reason=budget.sentence)
        deployment = _deployment(found)
        table = self._table(question, found, deployment)
        cell = _cell(question, found, table, budget)
        inputs, outputs, rng = _lengths(question)
        if question.concurrency is not None:
            outcome = simulate_llm_closed_loop(cell, inputs, outputs, question.concurrency, Start(question.start))
        else:
            gaps = rng.exponential(1.0 / float(question.rate_rps or 1.0), inputs.size)
            outcome = simulate_llm(
                cell,
                Requests(
                    arrival_s=np.cumsum(gaps),
                    input_tokens=inputs,
                    output_tokens=outputs,
                    cached_tokens=np.zeros_like(inputs),
                ),
            )
        return _estimate(question, found, budget, deployment, (table, outcome, outputs))

    def _table(self, question: Question, found: Resolved, deployment: Deployment) -> StepTable:
        key = (question.model, question.gpu, question.engine, found.layout, found.batched)
        if key not in self._tables:
            self._tables[key] = tabulate_step(deployment)
        return self._tables[key]


def _resolve(question: Question) -> Resolved:
    model = load_model(question.model)
    gpu = find_gpu(question.gpu)
    engine = load_engine(question.engine)
    try:
        quantization = Quantization(question.quantization or model.dtype)
    except ValueError as error:
        known = ", ".join(Quantization)
        raise ProfileError(f"quantization '{question.quantization}' is not known. Known: {known}.") from error
    layout = Layout(
        quantization=quantization,
        kv_dtype=KvDtype(gpu.half_precision),
        tp=question.tp,
        pp=question.pp,
        ep=max(question.ep, question.tp * question.attention_dp) if question.attention_dp > 1 else question.ep,
    )
    defaults = engine.limits_for(gpu)
    batched = question.max_num_batched_tokens or defaults.max_num_batched_tokens
    seqs = min(question.max_num_seqs or defaults.max_num_seqs, batched)
    length = question.input_tokens + question.output_tokens
    if model.encoder_only and batched < length:
        if question.max_num_batched_tokens is not None:
            raise ProfileError(
                f"max_num_batched_tokens {batched} is below the {length} tokens of a request: {question.model} is an"
                " encoder, whose prompts are not cut."
            )
        batched = length
    return Resolved(model=model, gpu=gpu, engine=engine, layout=layout, seqs=seqs, batched=batched, length=length)


def _budget(found: Resolved) -> MemoryBudget | Refusal:
    memory = EngineMemory(
        gpu_memory_utilization=found.engine.gpu_memory_utilization,
        process_overhead_bytes=found.engine.process_overhead_bytes,
        cuda_graph_bytes=0,  # counted in the process overhead of the engine's file
        max_model_len_tokens=found.length,
        max_num_batched_tokens=found.batched,
        max_num_seqs=found.seqs,
        block_tokens=found.engine.block_tokens,
        reserved_blocks=found.engine.reserved_blocks,
    )
    return memory_budget(found.model, found.layout, found.gpu, memory)


def _deployment(found: Resolved) -> Deployment:
    return Deployment(
        model=found.model,
        gpu=found.gpu,
        engine=found.engine,
        quantization=found.layout.quantization,
        kv_dtype=found.layout.kv_dtype,
        tp=found.layout.tp,
        pp=found.layout.pp,
        ep=found.layout.ep,
        max_tokens=found.batched,
    )


def _cell(question: Question, found: Resolved, table: StepTable, budget: MemoryBudget) -> LlmCell:
    held = sequence_kv_tokens(found.model, found.length)
    tokens = budget.usable_kv_tokens * found.length / held if budget.kv_bytes_per_token else 10_000_000
    return LlmCell(
        table=table,
        copies=question.attention_dp,
        kv_blocks=max(1, int(tokens) // found.engine.block_tokens),
        block_tokens=found.engine.block_tokens,
        max_num_seqs=found.seqs,
        max_num_batched_tokens=found.batched,
        max_model_len=found.length,
        router=Router.LEAST_LOADED,
        embed=found.model.kind == "embed",
        whole_prompts=found.model.encoder_only,
    )


def _lengths(question: Question) -> tuple[IntArray, IntArray, np.random.Generator]:
    rng = np.random.default_rng([question.seed, 0])
    default = OPEN_LOOP_REQUESTS if question.concurrency is None else REQUESTS_PER_CLIENT * question.concurrency
    count = question.num_requests or default
    drawn = []
    for tokens in (question.input_tokens, question.output_tokens):
        low = max(1, int(question.length_low_fraction * tokens))
        drawn.append(rng.integers(low, tokens, count, endpoint=True))
    return drawn[0], drawn[1], rng


def _estimate(
    question: Question,
    found: Resolved,
    budget: MemoryBudget,
    deployment: Deployment,
    run: tuple[StepTable, Outcome, IntArray],
) -> Estimate:
    table, outcome, outputs = run
    span = outcome.makespan_s
    served = outcome.served
    batch = _typical_batch(question, outcome, found.seqs)
    breakdown = estimate_breakdown(
        deployment,
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
        gpus=deployment.gpus,
        preemptions=outcome.preemptions,
        evidence=evidence_of(table, outcome),
        breakdown=tuple(breakdown),
        memory=budget,
        assumptions=(
            f"max_num_seqs {found.seqs}, max_num_batched_tokens {found.batched}",
            f"engine terms of {found.engine.name} {found.engine.version}",
        ),
    )


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
