"""What fits on a GPU: weights, activations and reserves of one engine process, and the KV cache that is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from profiles.layout import Layout, Refusal, RefusalReason, Stage, layout_refusal, stage_weight_bytes, stages
from profiles.models import ModelArchitecture
from profiles.precision import KvDtype, Quantization, element_bytes, execution, kv_runs
from profiles.units import GIB

LOGIT_COPIES_BYTES = 4 + 4
"""Bytes that go with an entry of the logits while a token is sampled: fp32 probabilities and their logarithms."""


class MemoryDevice(Protocol):
    """What a GPU (or a MIG slice of one) must say of itself here; `profiles.gpus.Gpu` does."""

    @property
    def name(self) -> str: ...

    @property
    def visible_memory_bytes(self) -> int: ...

    @property
    def peak_flops(self) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMemory:
    """What one engine process is told, and what it takes for itself, per GPU.

    `reserved_blocks` is vLLM's null block. The process overhead (CUDA context, NCCL, workspaces) is paid by every
    engine process on a GPU; `cuda_graph_bytes` is for captured graphs that the overhead does not hold already. KV gets
    `kv_fraction_of_free` of what is left.
    """

    gpu_memory_utilization: float
    process_overhead_bytes: int
    max_model_len_tokens: int
    max_num_batched_tokens: int
    max_num_seqs: int
    block_tokens: int
    reserved_blocks: int
    cuda_graph_bytes: int = 0
    kv_fraction_of_free: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes on one GPU of the stage with the least room for KV, term by term.

    `kv_blocks` includes the reserved one; `kv_tokens` is what the engine prints (all blocks), `usable_kv_tokens` is
    without it. For a model with sliding windows a token counts full: `sequence_kv_tokens` says how many a sequence
    takes. An encoder keeps no KV: zeros. `slack_bytes` is outside the utilisation, or left free beside KV.
    """

    visible_bytes: int
    slack_bytes: int
    process_overhead_bytes: int
    weight_bytes: int
    activation_bytes: int
    cuda_graph_bytes: int
    kv_bytes: int
    kv_bytes_per_token: int
    block_tokens: int
    kv_blocks: int
    usable_kv_tokens: int

    @property
    def kv_tokens(self) -> int:
        """Tokens of all blocks: the figure that vLLM prints at start as the size of its KV cache."""
        return self.kv_blocks * self.block_tokens


def weight_bytes_per_rank(model: ModelArchitecture, layout: Layout) -> int:
    """Bytes of weights on one rank of the heaviest pipeline stage, scales and both vocabulary tables included."""
    return max(stage_weight_bytes(model, layout, stage) for stage in stages(model, layout.pp))


def kv_bytes_per_token_per_rank(model: ModelArchitecture, kv_dtype: KvDtype, tp: int, pp: int) -> int:
    """Bytes of KV that one token takes on one rank of the stage with most layers, windowed layers counted full.

    KV heads are replicated when tp exceeds them; an MLA latent is held whole by every rank; an encoder keeps none.
    """
    return max(stage.layers for stage in stages(model, pp)) * layer_kv_bytes(model, kv_dtype, tp)


def layer_kv_bytes(model: ModelArchitecture, kv_dtype: KvDtype, tp: int) -> int:
    """Bytes of KV of one token in one layer on one rank."""
    if model.encoder_only:
        return 0
    if model.mla is not None:
        return (model.mla.kv_lora_rank + model.mla.qk_rope_head_dim) * kv_dtype.bytes
    return 2 * max(1, model.kv_heads // tp) * model.head_dim * kv_dtype.bytes


def kv_bytes_per_sequence(model: ModelArchitecture, context_tokens: int, kv_dtype: KvDtype, tp: int, pp: int) -> int:
    """Bytes of KV of one sequence of that length on one rank of the stage where it takes most.

    A windowed layer keeps the last `window_tokens` tokens only (vLLM's hybrid KV cache); while a prompt is prefilled it
    holds up to one chunk more, which is not counted here.
    """
    per_layer = layer_kv_bytes(model, kv_dtype, tp)
    return max(_stage_tokens(model, stage, context_tokens) for stage in stages(model, pp)) * per_layer


def sequence_kv_tokens(model: ModelArchitecture, context_tokens: int) -> float:
    """How many full tokens of KV (all layers) a sequence of that length takes: its length, without sliding windows."""
    window = model.sliding_window
    if window is None:
        return float(context_tokens)
    windowed = window.layers * min(context_tokens, window.window_tokens)
    return (model.global_layers * context_tokens + windowed) / model.layers


def _stage_tokens(model: ModelArchitecture, stage: Stage, context_tokens: int) -> int:
    if model.sliding_window is None:
        return stage.layers * context_tokens
    windowed = (stage.layers - stage.global_layers) * min(context_tokens, model.sliding_window.window_tokens)
    return stage.global_layers * context_tokens + windowed


def activation_bytes(model: ModelArchitecture, layout: Layout, tokens: int, sampled: int) -> int:
    """Peak bytes of activations on one rank for a step of `tokens` tokens of which `sampled` get their logits.

    The larger of two moments: the widest layer (hidden state and residual beside the block's own buffers; a mixture
    holds a row per token and chosen expert), and sampling (logits at the model's precision, and two fp32 copies). With
    tp > 1 an all-reduce buffer comes on top. These are the buffers that live in vLLM's profile run.
    """
    width = element_bytes(layout.quantization)
    states = 2 * tokens * model.hidden_size * width
    layer = states + tokens * max(_attention_width(model, layout.tp), _mlp_width(model, layout)) * width
    sampling = states
    if model.kind == "generate":
        sampling += sampled * model.vocab_size * (width + LOGIT_COPIES_BYTES)
    reduce_buffer = tokens * model.hidden_size * width if layout.tp > 1 else 0
    return max(layer, sampling) + reduce_buffer


def _attention_width(model: ModelArchitecture, tp: int) -> int:
    heads = model.heads // tp
    if model.mla is not None:
        mla = model.mla
        return heads * (2 * (mla.qk_nope_head_dim + mla.qk_rope_head_dim) + 2 * mla.v_head_dim)
    return (2 * heads + 2 * max(1, model.kv_heads // tp)) * model.head_dim


def _mlp_width(model: ModelArchitecture, layout: Layout) -> int:
    """Elements a token needs between up and down projection: gate and up, then their product."""
    ups = 2 if model.gated_mlp else 1
    dense = (ups + 1) * model.intermediate_size // layout.tp if model.dense_layers else 0
    if model.moe is None:
        return dense
    moe = model.moe
    inner = moe.expert_intermediate_size // layout.expert_tp
    routed = moe.experts_per_token * (max(ups * inner, model.hidden_size) + inner)
    shared = (ups + 1) * moe.shared_intermediate_size // layout.tp
    return max(dense, routed + shared)


def memory_budget(
    model: ModelArchitecture, layout: Layout, device: MemoryDevice, engine: EngineMemory
) -> MemoryBudget | Refusal:
    """What one GPU of a replica holds and how much KV is left, or why the replica cannot run.

    visible memory x utilisation - process overhead - weights - activations - graphs, times the fraction that KV gets of
    it, = KV, on the stage with the least room for tokens. Refused: a layout the engine refuses, a format the GPU cannot
    run, weights that do not fit, a KV cache that cannot hold one request of `max_model_len_tokens` beside the reserved
    block.
    """
    refusal = layout_refusal(model, layout) or format_refusal(layout, device) or _length_refusal(model, engine)
    if refusal is not None:
        return refusal
    budgets = [_stage_budget(model, layout, stage, device, engine) for stage in stages(model, layout.pp)]
    budget = min(budgets, key=lambda b: (b.kv_blocks if b.kv_bytes_per_token else 0, b.kv_bytes))
    return _fit_refusal(model, layout, budget, device, engine) or budget


def _stage_budget(
    model: ModelArchitecture, layout: Layout, stage: Stage, device: MemoryDevice, engine: EngineMemory
) -> MemoryBudget:
    visible = device.visible_memory_bytes
    allowed = int(visible * engine.gpu_memory_utilization)
    weights = stage_weight_bytes(model, layout, stage)
    sampled = min(engine.max_num_seqs, engine.max_num_batched_tokens) if stage.last else 0
    activations = activation_bytes(model, layout, engine.max_num_batched_tokens, sampled)
    free = allowed - engine.process_overhead_bytes - weights - activations - engine.cuda_graph_bytes
    kv = int(free * engine.kv_fraction_of_free) if free > 0 else free
    per_token = stage.layers * layer_kv_bytes(model, layout.kv_dtype, layout.tp)
    blocks = kv_blocks(max(kv, 0), per_token, engine.block_tokens)
    return MemoryBudget(
        visible_bytes=visible,
        slack_bytes=visible - allowed + free - kv,
        process_overhead_bytes=engine.process_overhead_bytes,
        weight_bytes=weights,
        activation_bytes=activations,
        cuda_graph_bytes=engine.cuda_graph_bytes,
        kv_bytes=kv,
        kv_bytes_per_token=per_token,
        block_tokens=engine.block_tokens,
        kv_blocks=blocks,
        usable_kv_tokens=max(0, blocks - engine.reserved_blocks) * engine.block_tokens,
    )


def kv_blocks(kv_bytes: int, kv_bytes_per_token: int, block_tokens: int) -> int:
    """Whole blocks that the KV memory of one rank holds, the reserved one included; 0 for a model that keeps no KV."""
    return kv_bytes // (kv_bytes_per_token * block_tokens) if kv_bytes_per_token else 0


def format_refusal(layout: Layout, device: MemoryDevice) -> Refusal | None:
    """Why the GPU cannot run the layout's formats, or None. fp8 weights on a GPU without fp8 units run weight-only."""
    if execution(layout.quantization, device.peak_flops) is None:
        instead = " Use fp16." if layout.quantization is Quantization.BF16 and "fp16" in device.peak_flops else ""
        return Refusal(
            reason=RefusalReason.FORMAT, sentence=f"{device.name} cannot run {layout.quantization} weights.{instead}"
        )
    if not kv_runs(layout.kv_dtype, device.peak_flops):
        return Refusal(reason=RefusalReason.FORMAT, sentence=f"{device.name} cannot read a {layout.kv_dtype} KV cache.")
    return None


def _length_refusal(model: ModelArchitecture, engine: EngineMemory) -> Refusal | None:
    if engine.max_model_len_tokens <= model.max_position_embeddings:
        return None
    return Refusal(
        reason=RefusalReason.MODEL_LENGTH,
        sentence=f"{model.name} takes at most {model.max_position_embeddings} tokens,"
        f" fewer than max_model_len {engine.max_model_len_tokens}.",
    )


def _fit_refusal(
    model: ModelArchitecture, layout: Layout, budget: MemoryBudget, device: MemoryDevice, engine: EngineMemory
) -> Refusal | None:
    placed = f"{model.name} in {layout.quantization} at tp {layout.tp}, pp {layout.pp}, ep {layout.ep} on {device.name}"
    if budget.kv_bytes <= 0:
        engine_bytes = budget.process_overhead_bytes + budget.cuda_graph_bytes
        needed = budget.weight_bytes + budget.activation_bytes + engine_bytes
        sentence = (
            f"{placed} does not fit: {_gib(budget.weight_bytes)} of weights, {_gib(budget.activation_bytes)} of"
            f" activations and {_gib(engine_bytes)} of the engine make {_gib(needed)}, and a GPU gives"
            f" {_gib(budget.visible_bytes - budget.slack_bytes)}, before any KV cache."
        )
        return Refusal(reason=RefusalReason.DOES_NOT_FIT, sentence=sentence)
    request = sequence_kv_tokens(model, engine.max_model_len_tokens)
    if budget.kv_bytes_per_token == 0 or request <= budget.usable_kv_tokens:
        return None
    sentence = (
        f"{placed} leaves {_gib(budget.kv_bytes)} of KV cache, {budget.usable_kv_tokens} tokens: one request of"
        f" max_model_len {engine.max_model_len_tokens} needs {_gib(int(request * budget.kv_bytes_per_token))}."
    )
    return Refusal(reason=RefusalReason.KV_TOO_SMALL, sentence=sentence)


def _gib(amount_bytes: int) -> str:
    return f"{amount_bytes / GIB:.1f} GiB"
