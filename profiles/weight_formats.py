"""How weights of a number format are multiplied on a GPU: units, calibrations, and the measured tables of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from profiles.errors import ProfileError
from profiles.gpus import ComputeType, Gpu
from profiles.models import ModelArchitecture, holds_experts_only
from profiles.precision import Execution, Quantization, execution

ACTIVATION_BYTES = 2.0
MEASURED_AS: Mapping[Quantization, str] = {
    Quantization.FP32: "fp32",
    Quantization.BF16: "bf16",
    Quantization.FP16: "bf16",
    Quantization.FP8: "fp8",
    Quantization.FP8_BLOCK: "fp8_block",
    Quantization.NVFP4: "fp4",
    Quantization.MXFP4: "mxfp4",
    Quantization.INT4: "int4",
    Quantization.AWQ: "int4",
    Quantization.GPTQ: "int4",
}
"""Operand types of kernel tables that time products with weights of a format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How weights of a format are multiplied: operand type, calibrations, bytes of an input element, a factor."""

    quantization: Quantization
    operand: ComputeType
    gemm_fit: str
    moe_fit: str
    input_bytes: float
    gemm_factor: float


def weight_format(quantization: Quantization, gpu: Gpu, fp8_block_factor: float) -> WeightFormat:
    """How a GPU multiplies weights of that format; ProfileError when it cannot."""
    how = execution(quantization, gpu.peak_flops)
    if how is None:
        known = ", ".join(sorted(gpu.peak_flops))
        raise ProfileError(f"{gpu.name} cannot run {quantization.value} weights (its arithmetic: {known}).")
    if how is Execution.WEIGHT_ONLY:
        return _format(quantization, gpu.half_precision, ("bf16", "int4"), ACTIVATION_BYTES)
    match quantization:
        case Quantization.FP32:
            return _format(quantization, "fp32", ("bf16", "bf16"), 4.0)
        case Quantization.FP8 | Quantization.INT8:
            operand: ComputeType = "fp8" if quantization is Quantization.FP8 else "int8"
            return _format(quantization, operand, ("fp8", "fp8"), 1.0)
        case Quantization.FP8_BLOCK:
            return _format(quantization, "fp8", ("fp8", "fp8"), 1.0, fp8_block_factor)
        case Quantization.NVFP4:
            return _format(quantization, "fp4", ("fp4", "fp4"), 0.5625)
        case Quantization.FP16:
            return _format(quantization, "fp16", ("bf16", "bf16"), ACTIVATION_BYTES)
        case _:
            return _format(quantization, gpu.half_precision, ("bf16", "bf16"), ACTIVATION_BYTES)


def _format(
    quantization: Quantization, operand: ComputeType, fits: tuple[str, str], input_bytes: float, factor: float = 1.0
) -> WeightFormat:
    return WeightFormat(
        quantization=quantization,
        operand=operand,
        gemm_fit=fits[0],
        moe_fit=fits[1],
        input_bytes=input_bytes,
        gemm_factor=factor,
    )


def rank_formats(
    model: ModelArchitecture, quantization: Quantization, gpu: Gpu, fp8_block_factor: float
) -> tuple[WeightFormat, WeightFormat]:
    """(format of the dense layers, format of the routed experts): some formats hold the experts only."""
    experts = weight_format(quantization, gpu, fp8_block_factor)
    if not holds_experts_only(model, quantization):
        return experts, experts
    half = Quantization(gpu.half_precision)
    return weight_format(half, gpu, fp8_block_factor), experts
