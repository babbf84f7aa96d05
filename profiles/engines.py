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
from profiles.models import ModelArchitecture

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


class StepTerms(EngineData):
    """Fixed times of a step for a family of models on some generations of GPU (none named: on all)."""

    family: Literal["dense", "moe"]
    generations: tuple[Generation, ...] = ()
    overhead_s: NonNegativeFloat
    prefill_factor: PositiveFloat
    prefill_floor_s_per_layer: NonNegativeFloat


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
    process_overhead_bytes: NonNegativeInt
    step_terms: tuple[StepTerms, ...]
    """None at all for an engine whose steps are known by measurement only."""
    sequence_s: NonNegativeFloat
    graph_sizes: GraphSizes
    front_end: FrontEnd
    schedule_lag_steps: NonNegativeInt
    chunked_prefill: bool
    prefix_caching: bool
    fp8_block_over_fp8: PositiveFloat = 1.0
    """Time of a GEMM with block-scaled fp8 weights over one with fp8 weights."""
    deployable_kinds: tuple[TemplateKind, ...] = Field(min_length=1)
    program: Literal["vllm"] = "vllm"
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

    def terms_for(self, gpu: Gpu, model: ModelArchitecture) -> StepTerms:
        """The step's fixed times for that model on that GPU; ProfileError when no entry holds for them."""
        family = "dense" if model.moe is None else "moe"
        for terms in self.step_terms:
            if terms.family == family and (not terms.generations or gpu.generation in terms.generations):
                return terms
        raise ProfileError(f"Engine {self.name!r} has no step_terms for {family} models on {gpu.name!r}.")


def engine_names() -> tuple[str, ...]:
    """Names of the catalogue's engines, sorted."""
    return data_names(FOLDER)


def load_engine(name_or_path: str) -> Engine:
    """The engine of a catalogue name, or of a YAML file (a path has a separator or ends in .yaml or .yml).

    Raises ProfileError: no such name (with the nearest one), or a file that does not fit.
    """
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return load_path(Path(name_or_path), Engine)
    return load_data(FOLDER, name_or_path, Engine)
