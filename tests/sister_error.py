"""What it costs to borrow a sister's curves: measured kernels of one GPU against the laws of another's calibration."""

from collections.abc import Mapping

import numpy as np

from profiles.efficiency import DeviceCurves, load_efficiency
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.gpus import Gpu, calibration_of, load_gpu
from profiles.kernel_store import TableError
from profiles.kernel_table import KernelTables, tables_of
from profiles.roofline import FloatArray, decode_attention_s, matmul_bytes, prefill_attention_s, roof_s

PRODUCTS = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (10240, 8192), (8192, 8192), (7168, 8192))
HEADS = ((32, 8), (8, 1), (64, 8), (16, 2), (8, 2))
"""Products (n, k) and (query, KV) heads of a rank of dense models of 8 to 70 billion parameters at tp 1 to 8."""
HEAD_DIM = 128
MOST_KV_TOKENS = 2**20


def sister_error(gpu: Gpu, sister: Gpu) -> Mapping[str, TableError]:
    """Errors at bf16 of the sister's curves, with this GPU's peaks, against this GPU's tables, by kind of kernel.

    Raises ProfileError when the GPU has no tables.
    """
    tables = tables_of(gpu)
    if tables is None:
        raise ProfileError(f"{gpu.name} has no kernel tables to compare with.")
    efficiency = load_efficiency(calibration_of(sister))
    curves = DeviceCurves(
        gpu=gpu, calibrated=load_gpu(efficiency.gpu), efficiency=efficiency, evidence=Evidence.MODELLED
    )
    return {
        "gemm": _summary([_gemm(tables, curves, n, k) for n, k in PRODUCTS]),
        "prefill_attention": _summary([_prefill(tables, curves, heads, kv) for heads, kv in HEADS]),
        "decode_attention": _summary([_decode(tables, curves, heads, kv) for heads, kv in HEADS]),
    }


def _gemm(tables: KernelTables, curves: DeviceCurves, n: int, k: int) -> FloatArray:
    curve, m = tables.gemm("bf16", n, k), np.ldexp(1.0, np.arange(14))
    if curve is None:
        return np.zeros(0)
    modelled_s = roof_s(curves.gemm("bf16", "bf16"), matmul_bytes(m, n, k, 2.0, 2.0), 2.0 * m * n * k)
    return np.abs(modelled_s / curve.read(m) - 1)


def _prefill(tables: KernelTables, curves: DeviceCurves, heads: int, kv_heads: int) -> FloatArray:
    curve, tokens = tables.prefill("bf16", HEAD_DIM, heads, kv_heads, 0), np.ldexp(1.0, np.arange(7, 15))
    if curve is None:
        return np.zeros(0)
    modelled_s = prefill_attention_s(curves.prefill(), heads, 4.0 * HEAD_DIM, tokens)
    return np.abs(modelled_s / curve.read(tokens) - 1)


def _decode(tables: KernelTables, curves: DeviceCurves, heads: int, kv_heads: int) -> FloatArray:
    surface = tables.decode("bf16", HEAD_DIM, heads, kv_heads, 0)
    if surface is None:
        return np.zeros(0)
    batch, context = (a.ravel() for a in np.meshgrid(np.ldexp(1.0, np.arange(8)), np.ldexp(1.0, np.arange(8, 15))))
    fits = batch * context <= MOST_KV_TOKENS
    batch, context = batch[fits], context[fits]
    kv_bytes, flops = batch * context * 4.0 * kv_heads * HEAD_DIM, batch * context * 4.0 * heads * HEAD_DIM
    modelled_s = decode_attention_s(curves.decode("bf16"), batch * kv_heads, kv_bytes, flops)
    return np.abs(modelled_s / surface.read(batch, context) - 1)


def _summary(errors: list[FloatArray]) -> TableError:
    every = np.concatenate(errors)
    return TableError(
        points=int(every.size),
        median_error_fraction=round(float(np.median(every)), 4),
        p90_error_fraction=round(float(np.quantile(every, 0.9)), 4),
    )
