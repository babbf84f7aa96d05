"""Step times of a replica: from model, GPU, engine and parallelism to the arrays of `step_table.StepTable`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from profiles.attention_times import AttentionTimes
from profiles.collectives import Interconnect
from profiles.efficiency import DeviceCurves, curves_of
from profiles.engine_terms import StepOverheads, captured_sizes, launch_layers, padded_tokens, step_overheads
from profiles.engines import Engine, TermValues
from profiles.errors import ProfileError
from profiles.evidence import Evidence, EvidenceShares
from profiles.gpus import Gpu
from profiles.kernel_table import KernelTables, tables_of
from profiles.layer_kernels import Kernel, Rank, head_kernels, stage_kernels
from profiles.models import ModelArchitecture
from profiles.precision import KvDtype, Quantization, kv_runs
from profiles.roofline import FloatArray
from profiles.step_table import PREFILL_GRID_TOKENS, StepTable
from profiles.weight_formats import ACTIVATION_BYTES, rank_formats

BATCH_POWERS = 12
KV_POWERS = 26
LONGEST_PREFILL_TOKENS = 262_144
GRID_STEP_TOKENS = 64
REPRESENTATIVE_BATCH = 64
REPRESENTATIVE_CONTEXT = 1024


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One way to run one model: ep counts the ranks over which experts are split (1: their matrices are, by tp).

    ep beyond tp means that ep / tp attention ranks, each with a batch of its own, share the experts; the times are one
    such rank's. `max_tokens` is the largest number of tokens in a step that is tabulated. Links that are None are the
    catalogue's.
    """

    model: ModelArchitecture
    gpu: Gpu
    engine: Engine
    quantization: Quantization
    kv_dtype: KvDtype
    tp: int = 1
    pp: int = 1
    ep: int = 1
    max_tokens: int = 8192
    intra_node_bytes_per_s: float | None = None
    inter_node_bytes_per_s: float | None = None
    gpus_per_node: int = 8
    terms: TermValues | None = None
    """The engine's terms, where they are known better than from its file."""

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return max(self.tp, self.ep) * self.pp

    @property
    def stage_layers(self) -> int:
        """Layers of the largest pipeline stage."""
        return -(-self.model.layers // self.pp)

    @cached_property
    def curves(self) -> DeviceCurves:
        """The GPU's calibration; ProfileError when it has none."""
        return curves_of(self.gpu)

    @cached_property
    def tables(self) -> KernelTables | None:
        """The GPU's measured kernels, None when it has none; ProfileError when they are damaged."""
        return tables_of(self.gpu)

    @cached_property
    def attention(self) -> AttentionTimes:
        """Attention of the largest stage's layers on one rank."""
        return AttentionTimes(rank=self.rank, kv_dtype=self.kv_dtype, layers=self.stage_layers)

    @cached_property
    def rank(self) -> Rank:
        """One rank's share; ProfileError when this GPU cannot run the formats or the split does not work out."""
        _refuse_impossible(self)
        dense, experts = rank_formats(self.model, self.quantization, self.gpu, self.engine.fp8_block_over_fp8)
        return Rank(
            model=self.model,
            curves=self.curves,
            tables=self.tables,
            links=self.links,
            dense=dense,
            experts=experts,
            tp=self.tp,
            ep=self.ep,
        )

    @cached_property
    def links(self) -> Interconnect:
        """The links between the replica's GPUs."""
        return Interconnect(
            curves=self.curves,
            tables=self.tables,
            gpus_per_node=self.gpus_per_node,
            intra_node_bytes_per_s=self.intra_node_bytes_per_s,
            inter_node_bytes_per_s=self.inter_node_bytes_per_s,
        )

    @cached_property
    def overheads(self) -> StepOverheads:
        """The engine's fixed times."""
        terms = self.terms or self.engine.terms_for(self.gpu, self.model, self.quantization)
        return step_overheads(self.engine, terms, launch_layers(self.model, self.stage_layers))


KernelTime = tuple[str, float, Evidence]


def tabulate_step(deployment: Deployment) -> StepTable:
    """The step table of a deployment: seconds of its slowest pipeline stage.

    Raises ProfileError when the GPU cannot run the formats or the model cannot be split that way. `linear_s[0]` equals
    `linear_s[1]`: a step that is not empty costs at least one token's.
    """
    rank, overheads, front_end = deployment.rank, deployment.overheads, deployment.engine.front_end
    return StepTable(
        linear_s=_linear_s(deployment, stage_kernels(rank, deployment.stage_layers)),
        decode_attention_s=_decode_table_s(deployment),
        prefill_attention_s=_prefill_table_s(deployment),
        sampling_s=_sampling_table_s(deployment),
        overhead_s=overheads.overhead_s,
        prefill_factor=overheads.prefill_factor,
        prefill_floor_s=overheads.prefill_floor_s,
        stages=deployment.pp,
        send_s_per_token=_send_s_per_token(deployment),
        front_end_request_s=front_end.request_s,
        front_end_input_token_s=front_end.input_token_s,
        front_end_output_token_s=front_end.output_token_s,
        client_s=front_end.client_s,
        schedule_lag_steps=deployment.engine.schedule_lag_steps,
        component_evidence=_component_evidence(deployment),
    )


def estimate_breakdown(
    deployment: Deployment, *, prefill_tokens: int, decode_batch: int, context: int
) -> list[KernelTime]:
    """(kernel, seconds, evidence) of one step on the slowest stage, which add up to its time.

    The step holds `decode_batch` sequences with `context` tokens each and one prompt of `prefill_tokens` from its start
    (0: none). What the engine's floor under steps with prefill adds is the last entry, `launch bound`.
    """
    overheads = deployment.overheads
    tokens = int(padded_tokens(deployment.engine.graph_sizes, np.array([prefill_tokens + decode_batch]))[0])
    factor = overheads.prefill_factor if prefill_tokens else 1.0
    attention = deployment.attention
    times = _kernel_times(stage_kernels(deployment.rank, deployment.stage_layers), tokens, factor)
    if decode_batch:
        cached = float(attention.decode_s(decode_batch, decode_batch * context))
        times.append(("decode attention", cached, attention.decode_evidence(decode_batch, context)))
    if prefill_tokens:
        prompt_s = factor * float(attention.prefill_s(prefill_tokens))
        times.append(("prefill attention", prompt_s, attention.prefill_evidence(prefill_tokens)))
    sequences = decode_batch + (1 if prefill_tokens else 0)
    times += _kernel_times(head_kernels(deployment.rank), sequences, 1.0)
    times.append(("engine per sequence", overheads.sequence_s * sequences, Evidence.FITTED))
    times.append(("engine per step", overheads.overhead_s, Evidence.FITTED))
    short_s = overheads.prefill_floor_s - sum(seconds for _, seconds, _ in times)
    if prefill_tokens and short_s > 0:
        times.append(("launch bound", short_s, Evidence.FITTED))
    return times


def _refuse_impossible(deployment: Deployment) -> None:
    """Raise ProfileError for a split or a KV format that no engine could run."""
    model, tp, ep = deployment.model, deployment.tp, deployment.ep
    if min(tp, deployment.pp, ep) < 1 or deployment.max_tokens < 1:
        raise ProfileError(f"{model.name}: tp, pp, ep and max_tokens must be at least 1.")
    if deployment.pp > model.layers:
        raise ProfileError(f"{model.name} has {model.layers} layers: pp {deployment.pp} leaves stages empty.")
    if model.heads % tp:
        raise ProfileError(f"{model.name} has {model.heads} attention heads, which tp {tp} does not divide.")
    if ep > 1 and model.moe is None:
        raise ProfileError(f"{model.name} has no experts to split: ep must be 1.")
    if model.moe is not None and (model.moe.experts % ep or (tp % ep and ep % tp)):
        raise ProfileError(f"{model.name}: ep {ep} must divide its {model.moe.experts} experts and go with tp {tp}.")
    if not kv_runs(deployment.kv_dtype, deployment.gpu.peak_flops):
        raise ProfileError(f"{deployment.gpu.name} cannot read a KV cache of {deployment.kv_dtype.value}.")


def _linear_s(deployment: Deployment, kernels: Sequence[Kernel]) -> FloatArray:
    """Kernels that see every token of the step, at the padded number of tokens."""
    tokens = padded_tokens(deployment.engine.graph_sizes, np.arange(deployment.max_tokens + 1))
    grid = _grid(deployment.engine, int(tokens[-1]))
    times = _total_s(kernels, grid)
    table = np.interp(tokens, grid, times)
    table[0] = table[1]
    return table


def _grid(engine: Engine, largest: int) -> FloatArray:
    """Token counts at which kernels are worked out; linear between."""
    captured = captured_sizes(engine.graph_sizes)
    dense = np.arange(1, min(17, largest + 1)) if captured.size == 0 else captured[captured <= largest]
    beyond = np.arange(GRID_STEP_TOKENS, largest, GRID_STEP_TOKENS)
    return np.unique(np.concatenate([[1], dense, beyond, [largest]])).astype(np.float64)


def _total_s(kernels: Sequence[Kernel], tokens: FloatArray) -> FloatArray:
    total = np.zeros(tokens.shape)
    for kernel in kernels:
        total += kernel.repeats * kernel.seconds(tokens)
    return total


def _decode_table_s(deployment: Deployment) -> FloatArray:
    batch = np.ldexp(1.0, np.arange(BATCH_POWERS))[:, None]
    kv_tokens = np.ldexp(1.0, np.arange(KV_POWERS))[None, :]
    return deployment.attention.decode_s(batch, kv_tokens)


def _prefill_table_s(deployment: Deployment) -> FloatArray:
    longest = min(deployment.model.max_position_embeddings, LONGEST_PREFILL_TOKENS)
    points = max(-(-longest // PREFILL_GRID_TOKENS), 1)
    return deployment.attention.prefill_s(np.arange(points + 1, dtype=np.float64) * PREFILL_GRID_TOKENS)


def _sampling_table_s(deployment: Deployment) -> FloatArray:
    most = deployment.engine.limits_for(deployment.gpu).max_num_seqs
    sequences = np.arange(most + 1)
    grid = _grid(deployment.engine, most)
    times = _total_s(head_kernels(deployment.rank), grid)
    table = np.where(sequences > 0, np.interp(sequences, grid, times), 0.0)
    return np.asarray(table + deployment.overheads.sequence_s * sequences)


def _send_s_per_token(deployment: Deployment) -> float:
    if deployment.pp == 1:
        return 0.0
    return ACTIVATION_BYTES * deployment.model.hidden_size / deployment.links.send_bytes_per_s(deployment.gpus)


def _component_evidence(deployment: Deployment) -> tuple[EvidenceShares, ...]:
    """Shares of each `step_table.Component` at a batch of 64 with 1024 tokens of context and one prompt of 1024."""
    times = estimate_breakdown(
        deployment,
        prefill_tokens=REPRESENTATIVE_CONTEXT,
        decode_batch=REPRESENTATIVE_BATCH,
        context=REPRESENTATIVE_CONTEXT,
    )
    head = {kernel.name for kernel in head_kernels(deployment.rank)} | {"engine per sequence"}
    attention = {"decode attention", "prefill attention"}
    engine = {"engine per step", "launch bound"}
    linear = [t for t in times if t[0] not in head | attention | engine]
    return (
        _shares(linear),
        _shares([t for t in times if t[0] == "decode attention"]),
        _shares([t for t in times if t[0] == "prefill attention"]),
        _shares([t for t in times if t[0] in head]),
        _shares([t for t in times if t[0] == "engine per step"]),
    )


def _shares(times: Sequence[KernelTime]) -> EvidenceShares:
    total = EvidenceShares(seconds={})
    for _, seconds, evidence in times:
        total = total.plus(EvidenceShares.of(evidence, seconds))
    return total


def _kernel_times(kernels: Sequence[Kernel], tokens: int, factor: float) -> list[KernelTime]:
    at = np.array([float(tokens)])
    return [(k.name, factor * k.repeats * float(k.seconds(at)[0]), k.evidence(float(tokens))) for k in kernels]
