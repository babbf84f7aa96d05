"""Fitting calibrations to measured kernels: least squares on the logarithm of the time, within bounds.

The measured points of a calibration lie beside it, as `profiles/data/efficiency/<name>.csv`; `refit` gives back
the parameters of the `.yaml` (a test holds the two together).
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from profiles.efficiency import FOLDER, DecodeFit, Efficiency, PrefillFit, RoofFit
from profiles.errors import ProfileError
from profiles.gpus import ComputeType, Gpu, load_gpu
from profiles.roofline import (
    DecodeLaw,
    FloatArray,
    PrefillLaw,
    Roof,
    decode_attention_s,
    experts_touched,
    matmul_bytes,
    prefill_attention_s,
    roof_s,
)

OPERANDS: Mapping[str, tuple[float, float, ComputeType]] = {
    "bf16": (2.0, 2.0, "bf16"),
    "fp8": (1.0, 1.0, "fp8"),
    "fp4": (0.5625, 0.5625, "fp4"),
    "int4": (0.53125, 2.0, "bf16"),
}
"""Bytes a weight, bytes an input, operand type of each calibrated type (fp4: NVFP4; int4: MXFP4 weights)."""
GAIN_TOLERANCE = 1e-10
MOST_DAMPING = 1e8
MOST_STEPS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where the search for parameters starts and what it must stay within."""

    start: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Parameters and the relative error over the points they were fitted on."""

    parameters: tuple[float, ...]
    points: int
    median_error_fraction: float
    p90_error_fraction: float


def fit_law(law: Callable[[FloatArray], FloatArray], measured_s: FloatArray, bounds: Bounds) -> Fitted:
    """Parameters for which `law(parameters)` is closest to the measured times, in the square of the log ratio.

    Levenberg-Marquardt on the logarithm of the parameters, clipped to the bounds (Nocedal and Wright, Numerical
    Optimization, section 10.3). Deterministic.
    """
    low, high = np.log(np.asarray(bounds.low)), np.log(np.asarray(bounds.high))
    target = np.log(measured_s)

    def residual(at: FloatArray) -> FloatArray:
        return np.asarray(np.log(law(np.exp(at))) - target)

    position = np.log(np.asarray(bounds.start))
    error = residual(position)
    damping = 1e-2
    for _ in range(MOST_STEPS):
        step = _step(residual, position, error, damping)
        trial = np.clip(position + np.clip(step, -1.0, 1.0), low, high)
        trial_error = residual(trial)
        gain = float(error @ error - trial_error @ trial_error)
        if gain > 0:
            position, error, damping = trial, trial_error, damping / 4
        else:
            damping *= 4
        if damping > MOST_DAMPING or 0 < gain < GAIN_TOLERANCE:
            break
    relative = np.abs(np.expm1(error))
    return Fitted(
        parameters=tuple(float(p) for p in np.exp(position)),
        points=len(measured_s),
        median_error_fraction=float(np.median(relative)),
        p90_error_fraction=float(np.quantile(relative, 0.9)),
    )


def _step(
    residual: Callable[[FloatArray], FloatArray], position: FloatArray, error: FloatArray, damping: float
) -> FloatArray:
    width = 1e-6
    columns = [(residual(position + width * unit) - error) / width for unit in np.eye(len(position))]
    jacobian = np.stack(columns, axis=1)
    normal = jacobian.T @ jacobian + damping * np.eye(len(position))
    return np.asarray(np.linalg.solve(normal, -jacobian.T @ error))


Points = Mapping[str, NDArray[np.float64]]


def read_points(name: str, kernel: str, operand: str) -> Points:
    """The measured points of one kernel and operand type as columns (times in seconds under `latency_s`).

    Raises ProfileError when the calibration has none.
    """
    text = resources.files("profiles").joinpath("data", FOLDER, f"{name}.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = [r for r in csv.DictReader(lines) if r["kernel"] == kernel and r["operand"] == operand]
    if not rows:
        raise ProfileError(f"Calibration {name!r} has no measured points of {kernel} at {operand}.")
    filled = [c for c in rows[0] if c not in ("kernel", "operand", "latency_us") and rows[0][c] != ""]
    columns = {c: np.array([float(r[c]) for r in rows]) for c in filled}
    columns["latency_s"] = np.array([float(r["latency_us"]) for r in rows]) * 1e-6
    return columns


def refit(calibration: Efficiency) -> Efficiency:
    """The calibration with every curve fitted again on its measured points; ProfileError when one has no points."""
    name, gpu = calibration.name, load_gpu(calibration.gpu)
    curves = {
        "gemm": {operand: fit_gemm(name, gpu, operand) for operand in calibration.gemm},
        "moe": {operand: fit_moe(name, gpu, operand) for operand in calibration.moe},
        "decode_attention": {kv: fit_decode(name, gpu, kv) for kv in calibration.decode_attention},
        "prefill_attention": fit_prefill(name, gpu),
    }
    return calibration.model_copy(update=curves)


def uncached(points: Points, bytes_moved: FloatArray, gpu: Gpu) -> NDArray[np.bool_]:
    """Which points are no faster than the memory allows: the others came from a cache that the benchmark had warmed."""
    return np.asarray(points["latency_s"] * gpu.memory_bandwidth_bytes_per_s > bytes_moved)


def fit_gemm(name: str, gpu: Gpu, operand: str) -> RoofFit:
    """The roof of dense GEMMs with operands of that type."""
    points = read_points(name, "gemm", operand)
    weight, activation, kind = OPERANDS[operand]
    moved = np.asarray([matmul_bytes(m, n, k, weight, activation) for m, n, k in _columns(points, ("m", "n", "k"))])
    keep = uncached(points, moved, gpu)
    moved, flops = moved[keep], (2.0 * points["m"] * points["n"] * points["k"])[keep]
    return _roof_fit(fit_law(lambda p: _roof_law(p, gpu, kind, moved, flops), points["latency_s"][keep], ROOF_BOUNDS))


def fit_moe(name: str, gpu: Gpu, operand: str) -> RoofFit:
    """The roof of grouped GEMMs over routed experts (both projections and what joins them), on tp x ep ranks."""
    points = read_points(name, "moe", operand)
    weight, activation, kind = OPERANDS[operand]
    moved, flops = moe_work(points, weight, activation)
    keep = uncached(points, moved, gpu)
    moved, flops, ep = moved[keep], flops[keep], points["ep"][keep]

    def law(p: FloatArray) -> FloatArray:
        return _roof_law(p[:4], gpu, kind, moved, flops * ep ** p[4])

    return _roof_fit(fit_law(law, points["latency_s"][keep], MOE_BOUNDS))


def moe_work(points: Points, weight_bytes: float, activation_bytes: float) -> tuple[FloatArray, FloatArray]:
    """(bytes, operations) of the gated expert MLPs on the average of tp x ep ranks."""
    hidden, width = points["hidden"], points["intermediate"] / points["tp"]
    touched = experts_touched_each(points) / points["ep"]
    routed = points["tokens"] * points["experts_per_token"] / points["ep"]
    per_row = hidden * (activation_bytes + 2.0) + width * (activation_bytes + 4.0)
    return 3.0 * weight_bytes * hidden * width * touched + routed * per_row, 6.0 * routed * hidden * width


def experts_touched_each(points: Points) -> FloatArray:
    """Experts that the tokens of each point are expected to touch, over all ranks."""
    columns = _columns(points, ("tokens", "experts", "experts_per_token"))
    return np.array([float(experts_touched(t, e, k)) for t, e, k in columns])


def fit_decode(name: str, gpu: Gpu, kv: str) -> DecodeFit:
    """The law of decode attention with a cache of that type (head size 128)."""
    points = read_points(name, "decode_attention", kv)
    kv_bytes = OPERANDS[kv][0] * 2 * 128 * points["batch"] * points["context"] * points["kv_heads"]
    keep = uncached(points, kv_bytes, gpu)
    kv_bytes, heads = kv_bytes[keep], (points["batch"] * points["kv_heads"])[keep]

    def law(p: FloatArray) -> FloatArray:
        bandwidth = gpu.memory_bandwidth_bytes_per_s * p[1]
        shape = DecodeLaw(launch_s=p[0], bytes_per_s=bandwidth, sequence_head_s=p[2], flops_per_s=np.inf)
        return decode_attention_s(shape, heads, kv_bytes, 0.0)

    bounds = Bounds(start=(8e-6, 0.8, 1e-8), low=(1e-6, 0.2, 1e-12), high=(1e-4, 1.0, 1e-6))
    fitted = fit_law(law, points["latency_s"][keep], bounds)
    launch_s, bandwidth, each = fitted.parameters
    return DecodeFit(
        launch_s=launch_s,
        bandwidth_fraction=bandwidth,
        sequence_head_s=each,
        points=fitted.points,
        median_error_fraction=fitted.median_error_fraction,
        p90_error_fraction=fitted.p90_error_fraction,
    )


def fit_prefill(name: str, gpu: Gpu) -> PrefillFit:
    """The law of prefill attention at 16 bit (head size 128, one prompt)."""
    points = read_points(name, "prefill_attention", "bf16")
    peak = gpu.flops(gpu.half_precision)

    def law(p: FloatArray) -> FloatArray:
        shape = PrefillLaw(
            launch_s=p[0],
            flops_per_s=peak * p[1],
            extra_pairs=p[2],
            path_flops_per_s=peak / (gpu.sm_count or 1) * p[3],
            sharpness=p[4],
        )
        return np.array(
            [float(prefill_attention_s(shape, h, 4.0 * 128, s)) for s, h in _columns(points, ("tokens", "heads"))]
        )

    bounds = Bounds(start=(8e-6, 0.65, 500, 0.6, 3.0), low=(1e-6, 0.2, 1.0, 0.1, 1.0), high=(1e-4, 1.0, 5e3, 3.0, 8.0))
    fitted = fit_law(law, points["latency_s"], bounds)
    launch_s, compute, pairs, path, sharpness = fitted.parameters
    return PrefillFit(
        launch_s=launch_s,
        compute_fraction=compute,
        extra_pairs=pairs,
        path_fraction=path,
        sharpness=sharpness,
        points=fitted.points,
        median_error_fraction=fitted.median_error_fraction,
        p90_error_fraction=fitted.p90_error_fraction,
    )


ROOF_BOUNDS = Bounds(start=(3e-6, 0.8, 0.7, 3.0), low=(1e-6, 0.2, 0.1, 1.0), high=(1e-4, 1.0, 1.0, 8.0))
MOE_BOUNDS = Bounds(start=(3e-5, 0.8, 0.5, 1.5, 0.3), low=(1e-6, 0.2, 0.02, 1.0, 1e-3), high=(3e-4, 1.0, 1.0, 8.0, 1.0))


def _roof_law(parameters: FloatArray, gpu: Gpu, kind: ComputeType, moved: FloatArray, flops: FloatArray) -> FloatArray:
    roof = Roof(
        launch_s=parameters[0],
        bytes_per_s=gpu.memory_bandwidth_bytes_per_s * parameters[1],
        flops_per_s=gpu.flops(kind) * parameters[2],
        sharpness=parameters[3],
    )
    return roof_s(roof, moved, flops)


def _roof_fit(fitted: Fitted) -> RoofFit:
    return RoofFit(
        launch_s=fitted.parameters[0],
        bandwidth_fraction=fitted.parameters[1],
        compute_fraction=fitted.parameters[2],
        sharpness=fitted.parameters[3],
        imbalance_exponent=fitted.parameters[4] if len(fitted.parameters) > 4 else 0.0,
        points=fitted.points,
        median_error_fraction=fitted.median_error_fraction,
        p90_error_fraction=fitted.p90_error_fraction,
    )


def _columns(points: Points, names: Sequence[str]) -> list[tuple[float, ...]]:
    return list(zip(*(points[n].tolist() for n in names), strict=True))
