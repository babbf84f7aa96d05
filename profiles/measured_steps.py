"""Step times measured on a running engine: what `muxplan profile engine` writes and a plan for that device reads.

A device profile is a GPU (or a CPU core) with the steps of some models on it. One deployment's step law is

    step_s(T, K, chunks) = linear_s(T) + kv_token_s · K + Σ_chunks prompt_token_squared_s · [(p + q)² − p²]

with T tokens in the step, K tokens of KV under its decodes and chunks of q tokens after p. `linear_s` is given at the
measured token counts, linear between them; beyond the last one the last slope goes on. In front of the scheduler stands
a serial server: `request_s + input_token_s · input tokens`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from profiles.catalogue_files import Provenance, checked, read_mapping
from profiles.errors import ProfileError
from profiles.evidence import Evidence, EvidenceShares
from profiles.gpus import Gpu, inline_gpu, load_gpu
from profiles.precision import KvDtype, Quantization
from profiles.step_table import PREFILL_GRID_TOKENS, Component, StepTable

KV_OCTAVES = 31
BATCH_OCTAVES = 11


class MeasuredPart(BaseModel):
    """Base of the parts of a device profile: frozen, no unknown field, finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StepLaw(MeasuredPart):
    """Seconds of a step, by the law of this module."""

    tokens: tuple[PositiveInt, ...] = Field(min_length=2)
    linear_s: tuple[PositiveFloat, ...]
    kv_token_s: NonNegativeFloat
    prompt_token_squared_s: NonNegativeFloat

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if len(self.tokens) != len(self.linear_s):
            raise ValueError(f"{len(self.tokens)} token counts but {len(self.linear_s)} times")
        if any(b <= a for a, b in pairwise(self.tokens)):
            raise ValueError("tokens must increase")
        if any(b < a for a, b in pairwise(self.linear_s)):
            raise ValueError("linear_s must not fall: more tokens never take less time")
        return self

    def linear_at(self, tokens: np.ndarray) -> np.ndarray:
        """Seconds of the linear part at token counts, the last slope going on; 0 for none."""
        x, y = np.array(self.tokens, dtype=float), np.array(self.linear_s)
        slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
        inside = np.interp(tokens, x, y) + slope * np.maximum(tokens - x[-1], 0.0)
        return np.asarray(np.where(tokens > 0, inside, 0.0))


class MeasuredSteps(MeasuredPart):
    """One deployment: a model in one precision and layout on the device. `model_digest` is of its architecture.

    `worker_cpu` is the law of the worker's own processor time, which a busy machine does not stretch (CPU engines).
    `error_fraction` is the median absolute error of the law on the points that it was fitted to.
    """

    model: str
    model_digest: str
    quantization: Quantization
    kv_dtype: KvDtype
    tp: PositiveInt = 1
    pp: Literal[1] = 1
    ep: PositiveInt = 1
    step: StepLaw
    worker_cpu: StepLaw | None = None
    request_s: NonNegativeFloat
    input_token_s: NonNegativeFloat
    schedule_lag_steps: Literal[0, 1] = 0
    error_fraction: NonNegativeFloat
    repeats: PositiveInt


class DeviceProfile(MeasuredPart):
    """A device and what was measured on it with one engine."""

    version: Literal[1] = 1
    gpu: Gpu
    engine: str
    engine_version: str
    steps: tuple[MeasuredSteps, ...] = Field(min_length=1)
    sources: tuple[Provenance, ...] = Field(min_length=1)


def load_device(path: Path) -> DeviceProfile | Gpu:
    """The device profile, or the GPU alone, of a file; ProfileError when it cannot be read or does not fit."""
    payload = read_mapping(path)
    return checked(payload, DeviceProfile, str(path)) if "gpu" in payload else checked(payload, Gpu, str(path))


def named_gpu(named: str | Mapping[str, Any], folder: Path) -> Gpu:
    """What a spec names as a pool's GPU: of the catalogue, of a file relative to `folder`, or written out.

    Raises ProfileError as the readers of these.
    """
    if not isinstance(named, str):
        return inline_gpu(named)[0]
    if "/" not in named and not named.endswith((".yaml", ".yml")):
        return load_gpu(named)
    found = load_device(folder / named)
    return found if isinstance(found, Gpu) else found.gpu


def find_steps(
    steps: Sequence[MeasuredSteps], digest: str, layout: tuple[Quantization, KvDtype, int, int, int]
) -> MeasuredSteps | None:
    """The steps measured for that architecture, (quantisation, KV type, tp, pp, ep), if any were."""
    for one in steps:
        if one.model_digest == digest and (one.quantization, one.kv_dtype, one.tp, one.pp, one.ep) == layout:
            return one
    return None


def tabulate_measured(steps: MeasuredSteps, max_tokens: int) -> StepTable:
    """The measured law as the table that a simulator reads. ProfileError when no step of that size was measured."""
    if max_tokens < 1:
        raise ProfileError("a step holds at least one token")
    law = steps.step
    kv = 2.0 ** np.arange(KV_OCTAVES)
    prompts = PREFILL_GRID_TOKENS * np.arange(max(2, -(-max_tokens // PREFILL_GRID_TOKENS) + 1), dtype=float)
    measured = EvidenceShares(seconds={Evidence.MEASURED: 1.0})
    return StepTable(
        linear_s=law.linear_at(np.arange(max_tokens + 1, dtype=float)),
        decode_attention_s=np.tile(law.kv_token_s * kv, (BATCH_OCTAVES, 1)),
        prefill_attention_s=law.prompt_token_squared_s * prompts**2,
        sampling_s=np.zeros(2),
        overhead_s=0.0,
        prefill_factor=1.0,
        prefill_floor_s=0.0,
        stages=1,
        send_s_per_token=0.0,
        front_end_request_s=steps.request_s,
        front_end_input_token_s=steps.input_token_s,
        front_end_output_token_s=0.0,
        client_s=0.0,
        schedule_lag_steps=steps.schedule_lag_steps,
        component_evidence=tuple(measured for _ in Component),
    )
