"""Measured kernel times of a calibrated GPU beside what its curves give: how good the curves are, and its roofline."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.efficiency import DeviceCurves, FitKey
from profiles.efficiency_fit import OPERANDS, Points, moe_work, read_points
from profiles.roofline import decode_attention_s, matmul_bytes, prefill_attention_s, roof_s

FloatArray = NDArray[np.float64]
HEAD_SIZE = 128
"""Of the attention points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPoints:
    """Points of one kernel and operand type, arrays of one length; `shape` holds the columns that tell them apart."""

    kernel: str
    operand: str
    shape: Mapping[str, FloatArray]
    measured_s: FloatArray
    predicted_s: FloatArray
    bytes_moved: FloatArray
    flops: FloatArray


def kernel_points(curves: DeviceCurves) -> list[KernelPoints]:
    """All measured points of the calibration that the curves come from; ProfileError when it has none.

    The curves must be those of the calibrated GPU itself: a sister's points say nothing of it.
    """
    fits = curves.efficiency
    found = [_gemm(curves, operand) for operand in fits.gemm]
    found += [_moe(curves, operand) for operand in fits.moe]
    found += [_decode(curves, kv) for kv in fits.decode_attention]
    return [*found, _prefill(curves)]


def _gemm(curves: DeviceCurves, operand: FitKey) -> KernelPoints:
    points = read_points(curves.efficiency.name, "gemm", operand)
    weight, activation, kind = OPERANDS[operand]
    shapes = zip(points["m"], points["n"], points["k"], strict=True)
    moved = np.array([float(matmul_bytes(m, n, k, weight, activation)) for m, n, k in shapes])
    flops = 2.0 * points["m"] * points["n"] * points["k"]
    return _points("gemm", operand, points, (roof_s(curves.gemm(kind, operand), moved, flops), moved, flops))


def _moe(curves: DeviceCurves, operand: FitKey) -> KernelPoints:
    points = read_points(curves.efficiency.name, "moe", operand)
    weight, activation, kind = OPERANDS[operand]
    moved, flops = moe_work(points, weight, activation)
    roof, imbalance = curves.moe(kind, operand)
    predicted = roof_s(roof, moved, flops * points["ep"] ** imbalance)
    return _points("moe", operand, points, (predicted, np.asarray(moved), np.asarray(flops)))


def _decode(curves: DeviceCurves, kv: str) -> KernelPoints:
    points = read_points(curves.efficiency.name, "decode_attention", kv)
    heads = points["batch"] * points["kv_heads"]
    moved = OPERANDS[kv][0] * 2 * HEAD_SIZE * points["context"] * heads
    # Query heads are not in the points: a decode step is bound by reading the cache, whose arithmetic is small.
    flops = 4.0 * HEAD_SIZE * points["context"] * heads
    predicted = decode_attention_s(curves.decode(kv), heads, moved, 0.0)
    return _points("decode attention", kv, points, (predicted, moved, flops))


def _prefill(curves: DeviceCurves) -> KernelPoints:
    points = read_points(curves.efficiency.name, "prefill_attention", "bf16")
    law, tokens, heads = curves.prefill(), points["tokens"], points["heads"]
    predicted = np.array(
        [float(prefill_attention_s(law, h, 4.0 * HEAD_SIZE, t)) for t, h in zip(tokens, heads, strict=True)]
    )
    flops = 4.0 * HEAD_SIZE * heads * 0.5 * tokens**2
    moved = 2.0 * HEAD_SIZE * tokens * heads * 4.0
    return _points("prefill attention", "bf16", points, (predicted, moved, flops))


def _points(
    kernel: str, operand: str, points: Points, figures: tuple[FloatArray, FloatArray, FloatArray]
) -> KernelPoints:
    predicted, moved, flops = figures
    return KernelPoints(
        kernel=kernel,
        operand=operand,
        shape={name: values for name, values in points.items() if name != "latency_s"},
        measured_s=points["latency_s"],
        predicted_s=predicted,
        bytes_moved=moved,
        flops=flops,
    )
