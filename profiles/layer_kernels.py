"""The kernels that one pipeline stage of a replica runs on one rank, as functions of the tokens in a step."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from profiles.collectives import Interconnect
from profiles.efficiency import DeviceCurves
from profiles.evidence import Evidence
from profiles.kernel_curves import Curve
from profiles.kernel_kinds import Key
from profiles.kernel_table import KernelTables
from profiles.models import LatentAttention, MixtureOfExperts, ModelArchitecture
from profiles.precision import Quantization, matrix_bytes
from profiles.roofline import FloatArray, experts_touched, matmul_bytes, roof_s
from profiles.weight_formats import ACTIVATION_BYTES, MEASURED_AS, WeightFormat, weight_format

LOGIT_PASSES_BYTES = 12.0
"""Bytes a logit costs in sampling: three passes over fp32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that runs `repeats` times a step: `seconds(T)` of one run with T tokens, and how they are known.

    `measured`: the table and key of the curve it is read from, at `token_factor` times the tokens; None when it is
    scaled.
    """

    name: str
    repeats: float
    evidence: Callable[[float], Evidence]
    seconds: Callable[[FloatArray], FloatArray]
    measured: tuple[str, Key] | None = None
    token_factor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank of a replica: its device, its links and its share of the work."""

    model: ModelArchitecture
    curves: DeviceCurves
    tables: KernelTables | None
    links: Interconnect
    dense: WeightFormat
    experts: WeightFormat
    tp: int
    ep: int

    @property
    def dp(self) -> int:
        """Attention ranks (each with a batch of its own) whose tokens meet in the experts."""
        return max(self.ep // self.tp, 1)

    @property
    def heads(self) -> float:
        """Query heads of this rank."""
        return self.model.heads / self.tp

    @property
    def kv_heads(self) -> float:
        """KV heads of this rank: replicated when there are fewer than ranks, one latent for MLA."""
        return 1.0 if self.model.mla is not None else max(self.model.kv_heads / self.tp, 1.0)


def stage_kernels(rank: Rank, stage_layers: int) -> list[Kernel]:
    """Everything a stage of so many layers runs once per step, without attention, sampling and the engine's terms."""
    mixed = min(stage_layers, rank.model.moe_layers)
    plain = stage_layers - mixed
    kernels = [*_attention_kernels(rank, stage_layers), _norms(rank, stage_layers)]
    if plain:
        kernels += _mlp_kernels(rank, "mlp", rank.model.intermediate_size, plain)
    if mixed and rank.model.moe is not None:
        kernels += _moe_kernels(rank, rank.model.moe, mixed)
    kernels.append(_elementwise(rank, "embedding", 1, 2 * ACTIVATION_BYTES * rank.model.hidden_size))
    return kernels + _collective_kernels(rank, stage_layers, mixed)


def head_kernels(rank: Rank) -> list[Kernel]:
    """Output head and sampling, as functions of the sequences that sample; empty for an embedding model."""
    model = rank.model
    if model.kind == "embed":
        return []
    half = weight_format(Quantization(rank.curves.gpu.half_precision), rank.curves.gpu, 1.0)
    kernels = [
        _gemm(rank, "output head", (model.vocab_size / rank.tp, model.hidden_size), 1, half),
        _elementwise(rank, "sampling", 1, LOGIT_PASSES_BYTES * model.vocab_size),
    ]
    if rank.tp > 1:
        row = ACTIVATION_BYTES * model.vocab_size

        def gather_s(sequences: FloatArray) -> FloatArray:
            return rank.links.all_gather_s(rank.tp, row * sequences)

        kernels.append(_collective(rank, ("gather logits", "all_gather", rank.tp), 1, row, gather_s))
    return kernels


def _attention_kernels(rank: Rank, layers: int) -> list[Kernel]:
    model = rank.model
    if model.mla is not None:
        return _latent_kernels(rank, model.mla, layers)
    queries, keys = rank.heads * model.head_dim, rank.kv_heads * model.head_dim
    return [
        _gemm(rank, "qkv", (queries + 2 * keys, model.hidden_size), layers, rank.dense),
        _gemm(rank, "attention output", (model.hidden_size, queries), layers, rank.dense),
    ]


def _latent_kernels(rank: Rank, mla: LatentAttention, layers: int) -> list[Kernel]:
    """MLA's projections; what lifts the latent is read once, whether absorbed (decode) or not (prefill)."""
    hidden, latent = rank.model.hidden_size, mla.kv_lora_rank + mla.qk_rope_head_dim
    queries = rank.heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    values = rank.heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    down = (mla.q_lora_rank or 0) + latent
    return [
        _gemm(rank, "latent down", (down, hidden), layers, rank.dense),
        _gemm(rank, "query up", (queries, mla.q_lora_rank or hidden), layers, rank.dense),
        _gemm(rank, "key value up", (values, mla.kv_lora_rank), layers, rank.dense),
        _gemm(rank, "attention output", (hidden, rank.heads * mla.v_head_dim), layers, rank.dense),
    ]


def _mlp_kernels(rank: Rank, name: str, intermediate: int, layers: int) -> list[Kernel]:
    hidden, width, ups = rank.model.hidden_size, intermediate / rank.tp, 2 if rank.model.gated_mlp else 1
    return [
        _gemm(rank, f"{name} up", (ups * width, hidden), layers, rank.dense),
        _elementwise(rank, f"{name} activation", layers, (ups + 1) * ACTIVATION_BYTES * width),
        _gemm(rank, f"{name} down", (hidden, width), layers, rank.dense),
    ]


def _moe_kernels(rank: Rank, moe: MixtureOfExperts, layers: int) -> list[Kernel]:
    half = weight_format(Quantization(rank.curves.gpu.half_precision), rank.curves.gpu, 1.0)
    kernels = [_gemm(rank, "router", (moe.experts, rank.model.hidden_size), layers, half), _experts(rank, moe, layers)]
    if moe.shared_intermediate_size:
        kernels += _mlp_kernels(rank, "shared expert", moe.shared_intermediate_size, layers)
    return kernels


def _experts(rank: Rank, moe: MixtureOfExperts, layers: int) -> Kernel:
    """Grouped GEMM of the routed experts of one rank: experts over ep, their width over what tp leaves."""
    hidden, width = rank.model.hidden_size, moe.expert_intermediate_size / max(rank.tp // rank.ep, 1)
    matrices = 3 if rank.model.gated_mlp else 2
    form = rank.experts
    curve = _measured_experts(rank, moe)
    if curve is not None:
        kernel = _from_curve("experts", layers, curve, ("moe", _experts_key(rank, moe)))
        return replace(
            kernel,
            evidence=lambda tokens: kernel.evidence(tokens * rank.dp),
            seconds=lambda tokens: kernel.seconds(tokens * rank.dp),
            token_factor=rank.dp,
        )
    roof, imbalance = rank.curves.moe(form.operand, form.moe_fit)
    expert_bytes = matrices * matrix_bytes(form.quantization, max(round(width), 1), hidden)
    row_bytes = hidden * (form.input_bytes + 2.0) + width * (form.input_bytes + 4.0)

    def seconds(tokens: FloatArray) -> FloatArray:
        met = tokens * rank.dp
        routed = met * moe.experts_per_token / rank.ep
        touched = experts_touched(met, moe.experts, moe.experts_per_token) / rank.ep
        flops = 2.0 * matrices * routed * hidden * width * rank.ep**imbalance
        return roof_s(roof, expert_bytes * touched + routed * row_bytes, flops)

    return Kernel(name="experts", repeats=layers, evidence=_scaled(rank), seconds=seconds)


def _measured_experts(rank: Rank, moe: MixtureOfExperts) -> Curve | None:
    """The measured curve of this rank's experts (gated ones were measured), None when there is none."""
    if rank.tables is None or rank.experts.quantization not in MEASURED_AS or not rank.model.gated_mlp:
        return None
    return rank.tables.moe(_experts_key(rank, moe))


def _experts_key(rank: Rank, moe: MixtureOfExperts) -> Key:
    shape = (rank.model.hidden_size, moe.expert_intermediate_size, moe.experts_per_token, moe.experts)
    return (MEASURED_AS[rank.experts.quantization], *shape, max(rank.tp // rank.ep, 1), rank.ep)


def _from_curve(name: str, repeats: float, curve: Curve, measured: tuple[str, Key]) -> Kernel:
    """A kernel that is read from a measured curve at the tokens of the step."""
    return Kernel(name=name, repeats=repeats, evidence=curve.evidence, seconds=curve.read, measured=measured)


def _scaled(rank: Rank) -> Callable[[float], Evidence]:
    """The evidence of a kernel whose time is a roofline's: that of the curve, whatever the size."""
    return lambda tokens: rank.curves.evidence


def _collective_kernels(rank: Rank, layers: int, mixed: int) -> list[Kernel]:
    row = ACTIVATION_BYTES * rank.model.hidden_size
    kernels = []
    reductions = 2 * layers - (mixed if rank.dp > 1 else 0)
    if rank.tp > 1:

        def all_reduce_s(tokens: FloatArray) -> FloatArray:
            return rank.links.all_reduce_s(rank.tp, row * tokens)

        kernels.append(_collective(rank, ("all-reduce", "all_reduce", rank.tp), reductions, row, all_reduce_s))
    if rank.dp > 1 and mixed and rank.model.moe is not None:
        fan_out = min(rank.model.moe.experts_per_token, rank.ep)

        def all_to_all_s(tokens: FloatArray) -> FloatArray:
            return rank.links.all_to_all_s(rank.ep, row * fan_out * tokens / rank.tp)

        sent = row * fan_out / rank.tp
        kernels.append(_collective(rank, ("all-to-all", "all_to_all", rank.ep), 2 * mixed, sent, all_to_all_s))
    return kernels


def _collective(
    rank: Rank,
    what: tuple[str, str, int],
    repeats: float,
    token_bytes: float,
    seconds: Callable[[FloatArray], FloatArray],
) -> Kernel:
    """A collective named `what` = (kernel, operation, GPUs) that carries so many bytes a token."""
    name, operation, gpus = what

    def evidence(tokens: float) -> Evidence:
        return rank.links.evidence(operation, gpus, token_bytes * tokens)

    return Kernel(name=name, repeats=repeats, evidence=evidence, seconds=seconds)


def _norms(rank: Rank, layers: int) -> Kernel:
    operand = MEASURED_AS[Quantization(rank.curves.gpu.half_precision)]
    curve = rank.tables.norm(operand, rank.model.hidden_size) if rank.tables else None
    if curve is not None:
        return _from_curve("norms", 2 * layers, curve, ("norm", (operand, rank.model.hidden_size)))
    return _elementwise(rank, "norms", 2 * layers, 4 * ACTIVATION_BYTES * rank.model.hidden_size)


def _elementwise(rank: Rank, name: str, repeats: float, token_bytes: float) -> Kernel:
    roof = rank.curves.elementwise()

    def seconds(tokens: FloatArray) -> FloatArray:
        return roof.launch_s + token_bytes * tokens / roof.bytes_per_s

    return Kernel(name=name, repeats=repeats, evidence=_scaled(rank), seconds=seconds)


def _gemm(rank: Rank, name: str, shape: tuple[float, float], repeats: float, form: WeightFormat) -> Kernel:
    """A dense product of the step's tokens with `shape` = (outputs, inputs) weights."""
    outputs, inputs = max(round(shape[0]), 1), max(round(shape[1]), 1)
    curve = _measured_gemm(rank, (outputs, inputs), form)
    if curve is not None:
        return _from_curve(name, repeats, curve, ("gemm", (MEASURED_AS[form.quantization], outputs, inputs)))
    roof = rank.curves.gemm(form.operand, form.gemm_fit)
    weight_bytes = matrix_bytes(form.quantization, outputs, inputs) / (outputs * inputs)

    def seconds(tokens: FloatArray) -> FloatArray:
        moved = matmul_bytes(tokens, outputs, inputs, weight_bytes, form.input_bytes)
        return form.gemm_factor * roof_s(roof, moved, 2.0 * np.asarray(tokens) * outputs * inputs)

    return Kernel(name=name, repeats=repeats, evidence=_scaled(rank), seconds=seconds)


def _measured_gemm(rank: Rank, shape: tuple[int, int], form: WeightFormat) -> Curve | None:
    """The measured curve of a product, None when there is none; block-scaled fp8 also as plain fp8 times its factor."""
    operand = MEASURED_AS.get(form.quantization)
    if rank.tables is None or operand is None:
        return None
    curve = rank.tables.gemm(operand, *shape)
    if curve is None and form.quantization is Quantization.FP8_BLOCK:
        plain = rank.tables.gemm("fp8", *shape)
        curve = replace(plain, seconds=plain.seconds * form.gemm_factor, shape=Evidence.SCALED) if plain else None
    return curve
