"""A question to the estimator, and what it takes to simulate it: the deployment, its memory, its cell and lengths."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.dispatch import dispatch_of
from planner.simulate_types import Dispatch, LlmCell, Router
from profiles.engines import Engine, TermValues, load_engine
from profiles.errors import ProfileError
from profiles.gpus import Gpu, find_gpu
from profiles.layout import Layout, Refusal, RefusalReason, layout_refusal
from profiles.memory import EngineMemory, MemoryBudget, memory_budget, sequence_kv_tokens
from profiles.models import ModelArchitecture, load_model
from profiles.precision import FLOATS, KvDtype, Quantization
from profiles.step_table import StepTable
from profiles.step_time import Deployment

IntArray = NDArray[np.int64]
OPEN_LOOP_REQUESTS = 2_000
REQUESTS_PER_CLIENT = 10
FP4 = "fp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One deployment and one load. Exactly one of `concurrency` and `rate_rps`; lengths uniform on [low · L, L].

    `poll_steps`, `wait_steps`, `wait_fraction`: as launched, see `simulate_types.Dispatch`.
    """

    model: str
    gpu: str
    input_tokens: int
    output_tokens: int
    engine: str = "vllm"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    attention_dp: int = 1
    moe_tp: int | None = None
    quantization: str | None = None
    kv_dtype: str | None = None
    concurrency: int | None = None
    rate_rps: float | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    poll_steps: int = 1
    wait_steps: int = 0
    wait_fraction: float = 1.0
    num_requests: int | None = None
    length_low_fraction: float = 1.0
    start: Literal["burst", "steady"] = "burst"
    seed: int = 0


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
    memory_utilization: float
    dispatch: Dispatch
    assumptions: tuple[str, ...] = ()


def resolve(question: Question) -> Resolved:
    model = load_model(question.model)
    gpu = find_gpu(question.gpu)
    engine = load_engine(question.engine)
    quantization = _quantization(question, model)
    formats = Layout(quantization=quantization, kv_dtype=_kv_dtype(question, gpu, engine, quantization))
    layout, assumptions = _layout(question, model, formats)
    defaults = engine.limits_for(gpu)
    batched = question.max_num_batched_tokens or defaults.max_num_batched_tokens
    seqs = min(question.max_num_seqs or defaults.max_num_seqs, batched)
    length = question.input_tokens + question.output_tokens
    whole = length if model.encoder_only else 0 if engine.chunked_prefill else question.input_tokens
    if batched < whole:
        if question.max_num_batched_tokens is not None:
            cutter = f"{question.model} is an encoder" if model.encoder_only else f"{engine.name} is an engine"
            raise ProfileError(
                f"max_num_batched_tokens {batched} is below the {whole} tokens of a request: {cutter}, whose prompts"
                " are not cut."
            )
        batched = whole
    return Resolved(
        model=model,
        gpu=gpu,
        engine=engine,
        layout=layout,
        seqs=seqs,
        batched=batched,
        length=length,
        memory_utilization=question.gpu_memory_utilization or engine.gpu_memory_utilization,
        dispatch=dispatch_of(
            engine,
            model,
            poll_steps=question.poll_steps,
            wait_steps=question.wait_steps,
            wait_fraction=question.wait_fraction,
        ),
        assumptions=assumptions,
    )


def _layout(question: Question, model: ModelArchitecture, layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    """(the layout with the ranks that are asked for, what had to be assumed to run it)."""
    tp, ep, assumed = _ranks(question, model)
    asked = replace(layout, tp=tp, pp=question.pp, ep=ep)
    refusal = layout_refusal(model, asked)
    whole = replace(asked, ep=tp)
    if refusal and refusal.reason is RefusalReason.SHAPE and model.moe and not layout_refusal(model, whole):
        return whole, (*assumed, f"ep {tp}, each expert whole: {refusal.sentence}")
    return asked, assumed


def _ranks(question: Question, model: ModelArchitecture) -> tuple[int, int, tuple[str, ...]]:
    """(tp, ep, what was assumed). `moe_tp` × ep ranks hold the experts; a smaller tp was left at its default."""
    tp, ep, dp, moe_tp = question.tp, question.ep, question.attention_dp, question.moe_tp or 1
    if model.moe is None:
        return tp, ep, ()
    if dp > 1:
        whole = max(ep, tp * dp)
        said = f"ep {whole}, each expert whole: experts cut over attention ranks are not modelled"
        return tp, whole, (said,) if moe_tp > 1 else ()
    if moe_tp * ep > tp and question.moe_tp is not None:
        return moe_tp * ep, ep, (f"tp {moe_tp * ep}: moe_tp {moe_tp} × ep {ep} ranks hold the experts",)
    return tp, ep, ()


def _quantization(question: Question, model: ModelArchitecture) -> Quantization:
    """The format asked for, else the model's own; `fp4` is the model's own kind of it, else NVIDIA's."""
    asked = question.quantization or model.dtype
    if asked == FP4:
        return model.dtype if model.dtype is Quantization.MXFP4 else Quantization.NVFP4
    try:
        return Quantization(asked)
    except ValueError as error:
        known = ", ".join((*Quantization, FP4))
        raise ProfileError(f"quantization '{asked}' is not known. Known: {known}.") from error


def _kv_dtype(question: Question, gpu: Gpu, engine: Engine, quantization: Quantization) -> KvDtype:
    if question.kv_dtype is None:
        small = quantization in FLOATS and gpu.generation in engine.fp8_kv_generations
        return KvDtype.FP8 if small else KvDtype(gpu.half_precision)
    try:
        return KvDtype(question.kv_dtype)
    except ValueError as error:
        raise ProfileError(f"kv_dtype '{question.kv_dtype}' is not known. Known: {', '.join(KvDtype)}.") from error


def memory_of(found: Resolved) -> MemoryBudget | Refusal:
    memory = EngineMemory(
        gpu_memory_utilization=found.memory_utilization,
        process_overhead_bytes=found.engine.process_overhead_bytes,
        cuda_graph_bytes=0,  # counted in the process overhead of the engine's file
        max_model_len_tokens=found.length,
        max_num_batched_tokens=found.batched,
        max_num_seqs=found.seqs,
        block_tokens=found.engine.block_tokens,
        reserved_blocks=found.engine.reserved_blocks,
        kv_fraction_of_free=found.engine.kv_fraction_of_free,
    )
    return memory_budget(found.model, found.layout, found.gpu, memory)


def deployment_of(found: Resolved, terms: TermValues | None) -> Deployment:
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
        terms=terms,
    )


def cell_of(question: Question, found: Resolved, table: StepTable, budget: MemoryBudget) -> LlmCell:
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
        dispatch=found.dispatch,
    )


def drawn_lengths(question: Question) -> tuple[IntArray, IntArray, np.random.Generator]:
    rng = np.random.default_rng([question.seed, 0])
    default = OPEN_LOOP_REQUESTS if question.concurrency is None else REQUESTS_PER_CLIENT * question.concurrency
    count = question.num_requests or default
    drawn = []
    for tokens in (question.input_tokens, question.output_tokens):
        low = max(1, int(question.length_low_fraction * tokens))
        drawn.append(rng.integers(low, tokens, count, endpoint=True))
    return drawn[0], drawn[1], rng
