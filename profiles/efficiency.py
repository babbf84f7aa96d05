"""How much of its peak a device reaches: calibrations fitted on measured kernels, and what they give on a GPU.

A calibration holds fractions of the data sheet's peaks and floors in seconds. On the GPU it was fitted on its figures
are `scaled`; a GPU without one borrows its sister's (same fractions, own peaks) and its figures are `modelled`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator

from profiles.catalogue_files import Provenance, load_data
from profiles.evidence import Evidence
from profiles.gpus import ComputeType, Gpu, calibration_of, load_gpu
from profiles.roofline import DecodeLaw, PrefillLaw, Roof

FOLDER = "efficiency"


FitKey = Literal["bf16", "fp8", "int4", "fp4"]
WIDER: Mapping[str, tuple[FitKey, ...]] = {
    "bf16": ("bf16",),
    "fp8": ("fp8", "bf16"),
    "int4": ("int4", "bf16"),
    "fp4": ("fp4", "fp8", "bf16"),
}


class Fit(BaseModel):
    """Base of the fitted curves: the error over the calibration points travels with the parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(ge=1)
    median_error_fraction: NonNegativeFloat
    p90_error_fraction: NonNegativeFloat


class RoofFit(Fit):
    """A kernel under two ceilings. The busiest of ep ranks has ep^`imbalance_exponent` times the mean work."""

    launch_s: NonNegativeFloat
    bandwidth_fraction: PositiveFloat
    compute_fraction: PositiveFloat
    sharpness: float = Field(ge=1)
    imbalance_exponent: NonNegativeFloat = 0.0


class DecodeFit(Fit):
    """Decode attention, see `roofline.DecodeLaw`."""

    launch_s: NonNegativeFloat
    bandwidth_fraction: PositiveFloat
    sequence_head_s: NonNegativeFloat


class PrefillFit(Fit):
    """Prefill attention, see `roofline.PrefillLaw`; `path_fraction` is of one SM's share of the peak."""

    launch_s: NonNegativeFloat
    compute_fraction: PositiveFloat
    extra_pairs: NonNegativeFloat
    path_fraction: PositiveFloat
    sharpness: float = Field(ge=1)


class AllReduceTable(BaseModel):
    """Measured all-reduce: `latency_s[g]` belongs to g GPUs, one value per entry of `message_bytes`.

    `cleaning` says how points that fall as messages grow are mended: `running` takes the least time of this and all
    larger messages, `envelope` the lower convex envelope.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cleaning: Literal["running", "envelope"] = "running"
    message_bytes: tuple[PositiveFloat, ...]
    latency_s: dict[int, tuple[PositiveFloat, ...]]


class Elementwise(BaseModel):
    """Kernels that only move bytes: norms, activations, residuals, embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    launch_s: NonNegativeFloat
    bandwidth_fraction: PositiveFloat


class Efficiency(BaseModel):
    """One calibration file. Keys of `gemm` and `moe` are operand types, of `decode_attention` types of the KV cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    gpu: str
    gemm: dict[FitKey, RoofFit]
    moe: dict[FitKey, RoofFit]
    decode_attention: dict[Literal["bf16", "fp8"], DecodeFit]
    prefill_attention: PrefillFit
    elementwise: Elementwise
    all_reduce: AllReduceTable | None = None
    sources: tuple[Provenance, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_the_widest(self) -> "Efficiency":
        for part in ("gemm", "moe", "decode_attention"):
            if "bf16" not in getattr(self, part):
                raise ValueError(f"{part} needs a fit for bf16, which others fall back to")
        return self


@lru_cache(maxsize=64)
def load_efficiency(name: str) -> Efficiency:
    """The calibration of that name; ProfileError when there is none."""
    return load_data(FOLDER, name, Efficiency)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCurves:
    """A GPU with the calibration that serves for it: what the laws of `roofline` need, in absolute rates."""

    gpu: Gpu
    calibrated: Gpu
    efficiency: Efficiency
    evidence: Evidence

    def gemm(self, operand: ComputeType, fit: str) -> Roof:
        """The roof of a GEMM with such operands; `fit` is the calibration asked for, else the next wider one."""
        return self._roof(_nearest_fit(self.efficiency.gemm, fit), operand)

    def moe(self, operand: ComputeType, fit: str) -> tuple[Roof, float]:
        """The roof of a grouped GEMM over experts, and its imbalance exponent."""
        chosen = _nearest_fit(self.efficiency.moe, fit)
        return self._roof(chosen, operand), chosen.imbalance_exponent

    def elementwise(self) -> Roof:
        """The roof of kernels that only move bytes."""
        fit = self.efficiency.elementwise
        bandwidth = self.gpu.memory_bandwidth_bytes_per_s * fit.bandwidth_fraction
        return Roof(launch_s=fit.launch_s, bytes_per_s=bandwidth, flops_per_s=self._half_flops, sharpness=1.0)

    def decode(self, kv: str) -> DecodeLaw:
        """The law of decode attention over a cache of that type (16-bit figures where that type has none)."""
        fits = self.efficiency.decode_attention
        fit = fits.get("fp8" if kv.startswith("fp8") else "bf16", fits["bf16"])
        return DecodeLaw(
            launch_s=fit.launch_s,
            bytes_per_s=self.gpu.memory_bandwidth_bytes_per_s * fit.bandwidth_fraction,
            sequence_head_s=fit.sequence_head_s * self._sm_slowdown,
            flops_per_s=self._half_flops * self.efficiency.prefill_attention.compute_fraction,
        )

    def prefill(self) -> PrefillLaw:
        """The law of prefill attention at 16 bit."""
        fit = self.efficiency.prefill_attention
        sms = self.gpu.sm_count or self.calibrated.sm_count or 1
        return PrefillLaw(
            launch_s=fit.launch_s,
            flops_per_s=self._half_flops * fit.compute_fraction,
            extra_pairs=fit.extra_pairs,
            path_flops_per_s=self._half_flops / sms * fit.path_fraction,
            sharpness=fit.sharpness,
        )

    @property
    def _half_flops(self) -> float:
        return self.gpu.flops(self.gpu.half_precision)

    @property
    def _sm_slowdown(self) -> float:
        """How much longer work bound by SMs takes here than on the calibrated GPU."""
        return self.calibrated.flops(self.calibrated.half_precision) / self._half_flops

    def _roof(self, fit: RoofFit, operand: ComputeType) -> Roof:
        return Roof(
            launch_s=fit.launch_s,
            bytes_per_s=self.gpu.memory_bandwidth_bytes_per_s * fit.bandwidth_fraction,
            flops_per_s=self.gpu.flops(operand) * fit.compute_fraction,
            sharpness=fit.sharpness,
        )


def _nearest_fit(fits: Mapping[FitKey, RoofFit], wanted: str) -> RoofFit:
    """The fit asked for, or the one of the next wider type that the calibration has (it always has bf16)."""
    order = WIDER[wanted]
    return next(fits[key] for key in order if key in fits)


def curves_of(gpu: Gpu) -> DeviceCurves:
    """The curves of a GPU: its own (`scaled`) or its sister's (`modelled`); ProfileError when there are none."""
    name = calibration_of(gpu)
    efficiency = load_efficiency(name)
    own = efficiency.gpu == gpu.name
    return DeviceCurves(
        gpu=gpu,
        calibrated=gpu if own else load_gpu(efficiency.gpu),
        efficiency=efficiency,
        evidence=Evidence.SCALED if own else Evidence.MODELLED,
    )
