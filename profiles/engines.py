"""Serving engines as data: scheduler defaults, memory accounting and the fixed times around a step.

Another engine is another file in `profiles/data/engines`, or a path.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from profiles.catalogue_files import Provenance, data_names, load_data, load_path
from profiles.errors import ProfileError
from profiles.gpus import Generation, Gpu
from profiles.models import ModelArchitecture, catalogue_digest
from profiles.precision import Quantization

FOLDER = "engines"
TemplateKind = Literal["dedicated", "colocated", "multiplexed", "disaggregated"]


class EngineData(BaseModel):
    """Base of the parts of an engine's file: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BatchLimits(EngineData):
    """Default limits of a step; the first entry whose conditions a GPU meets is taken."""

    min_visible_memory_bytes: NonNegativeInt = 0
    not_gpu_prefixes: tuple[str, ...] = ()
    max_num_seqs: PositiveInt
    max_num_batched_tokens: PositiveInt

    def holds_for(self, gpu: Gpu) -> bool:
        """Whether this entry is for that GPU."""
        excluded = any(gpu.name.startswith(prefix) for prefix in self.not_gpu_prefixes)
        return gpu.visible_memory_bytes >= self.min_visible_memory_bytes and not excluded


class TermValues(EngineData):
    """What an engine adds to the kernels of a step: a fixed time, a factor on the kernels of steps with a prefill, and
    the least time of such a step for each layer (they run without a CUDA graph, bound by launches; latent attention
    launches more, see `engine_terms.launch_layers`).
    """

    overhead_s: NonNegativeFloat
    prefill_factor: PositiveFloat
    prefill_floor_s_per_layer: NonNegativeFloat


class TermsFit(EngineData):
    """What terms rest on: measured runs of so many deployments, and the errors of their predictions (fractions)."""

    runs: PositiveInt
    deployments: PositiveInt
    ttft_median_error_fraction: NonNegativeFloat
    ttft_p90_error_fraction: NonNegativeFloat
    tpot_median_error_fraction: NonNegativeFloat
    tpot_p90_error_fraction: NonNegativeFloat


class StepTerms(TermValues):
    """Terms for the deployments that meet all conditions: a catalogue model (or one of its shape), formats of the
    weights, generations of GPU. A condition that is left out holds for all.
    """

    model: str | None = None
    quantizations: tuple[Quantization, ...] = ()
    generations: tuple[Generation, ...] = ()
    fit: TermsFit | None = None

    def holds_for(self, gpu: Gpu, model: ModelArchitecture, quantization: Quantization) -> bool:
        """Whether these terms are for that deployment."""
        if self.generations and gpu.generation not in self.generations:
            return False
        if self.quantizations and quantization not in self.quantizations:
            return False
        return self.model is None or catalogue_digest(self.model) == model.digest


class GraphSizes(EngineData):
    """Token counts with a CUDA graph: a step is padded up to the next one; beyond the largest there is none."""

    first: tuple[PositiveInt, ...] = (1, 2, 4)
    small_step: PositiveInt = 8
    small_until: PositiveInt = 256
    large_step: PositiveInt = 16
    largest: NonNegativeInt = 512


class FrontEnd(EngineData):
    """The serial part that handles a request before the scheduler sees it, and what the client adds to a TTFT."""

    request_s: NonNegativeFloat
    input_token_s: NonNegativeFloat
    output_token_s: NonNegativeFloat
    client_s: NonNegativeFloat


class Engine(EngineData):
    """One serving engine and version; times in seconds, memory in bytes."""

    name: str
    version: str
    batch_limits: tuple[BatchLimits, ...] = Field(min_length=1)
    block_tokens: PositiveInt = 16
    cpu_block_tokens: PositiveInt = 128
    reserved_blocks: NonNegativeInt = 1
    gpu_memory_utilization: float = Field(gt=0, le=1)
    kv_fraction_of_free: float = Field(default=1.0, gt=0, le=1)
    """Share that KV gets of the memory that is left beside weights and activations."""
    process_overhead_bytes: NonNegativeInt
    step_terms: tuple[StepTerms, ...]
    """The first that holds is taken; none at all for an engine whose steps are known by measurement only."""
    step_terms_spread: TermValues | None = None
    """By how much the terms of one deployment differ from these (standard deviation): how far a calibration may go."""
    sequence_s: NonNegativeFloat
    graph_sizes: GraphSizes
    front_end: FrontEnd
    schedule_lag_steps: NonNegativeInt
    fp8_kv_generations: tuple[Generation, ...] = ()
    """Where an estimate takes an fp8 KV cache beside weights in fp8, mxfp4 or nvfp4, unless told otherwise."""
    chunked_prefill: bool
    prompts_apart: bool = False
    """A step holds prompts only, or decodes only when there is no prompt to schedule."""
    reserves_output: bool = False
    """A request starts when there is KV for all of its answer, so that none is preempted."""
    prefix_caching: bool
    fp8_block_over_fp8: PositiveFloat = 1.0
    """Time of a GEMM with block-scaled fp8 weights over one with fp8 weights."""
    deployable_kinds: tuple[TemplateKind, ...]
    """What can be exported and started; none: the engine is for estimates and what-if."""
    program: Literal["vllm", "sglang", "trtllm"] = "vllm"
    """The program that runs a replica."""
    device: Literal["gpu", "cpu"] = "gpu"
    """What a "GPU" of a plan for this engine is: a GPU, or one processor core."""
    launch_arguments: Mapping[str, bool | int | str] = Field(default_factory=dict)
    """Flags that every replica is started with, beside those that the plan gives."""
    sources: tuple[Provenance, ...] = Field(min_length=1)

    def limits_for(self, gpu: Gpu) -> BatchLimits:
        """The default limits of a step on that GPU; ProfileError when no entry holds for it."""
        for limits in self.batch_limits:
            if limits.holds_for(gpu):
                return limits
        raise ProfileError(
            f"Engine {self.name!r} has no batch_limits for {gpu.name!r}; add an entry without conditions."
        )

    def terms_for(self, gpu: Gpu, model: ModelArchitecture, quantization: Quantization) -> StepTerms:
        """The step's fixed times for that deployment; ProfileError when no entry holds for it."""
        for terms in self.step_terms:
            if terms.holds_for(gpu, model, quantization):
                return terms
        if not self.step_terms:
            raise ProfileError(
                f"Engine {self.name!r} has no step_terms: its steps are known by measurement only. Measure them with"
                " muxplan profile engine and plan for the device profile that it writes, or name another engine."
            )
        raise ProfileError(
            f"Engine {self.name!r} has no step_terms for {model.name!r} in {quantization} on {gpu.name!r};"
            " add an entry without conditions."
        )


def engine_names() -> tuple[str, ...]:
    """Names of the catalogue's engines, sorted."""
    return data_names(FOLDER)


def is_engine_file(name_or_path: str) -> bool:
    """Whether an engine is named by a file: a path has a separator or ends in .yaml or .yml."""
    return "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml"))


def load_engine(name_or_path: str, folder: Path = Path()) -> Engine:
    """The engine of a catalogue name, or of a YAML file, whose path is relative to `folder`.

    Raises ProfileError: no such name (with the nearest one), or a file that does not fit.
    """
    if is_engine_file(name_or_path):
        return load_path(folder / name_or_path, Engine)
    return load_data(FOLDER, name_or_path, Engine)
