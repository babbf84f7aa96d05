"""Whatever the shape: times from the shipped tables are positive, finite and never fall as work grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.gpus import load_gpu
from profiles.kernel_curves import Curve, Surface
from profiles.kernel_table import KernelTables, tables_of

TABLED = ("h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "a100-sxm-80gb", "l40s-48gb")
SIZES = np.unique(np.round(np.geomspace(1, 3e6, 400)))
EPSILON = 1e-15


def tables(gpu: str) -> KernelTables:
    """The shipped tables of a GPU."""
    found = tables_of(load_gpu(gpu))
    assert found is not None
    return found


def holds(curve: Curve) -> None:
    """A curve is positive, finite and does not fall."""
    times = curve.read(SIZES)
    assert np.isfinite(times).all() and (times > 0).all()
    assert (np.diff(times) >= -EPSILON).all()


def surface_holds(surface: Surface) -> None:
    """A surface is positive, finite and falls neither in batch nor in context."""
    times = surface.read(np.geomspace(1, 5000, 30)[:, None], SIZES[None, ::8])
    assert np.isfinite(times).all() and (times > 0).all()
    assert (np.diff(times, axis=0) >= -EPSILON).all() and (np.diff(times, axis=1) >= -EPSILON).all()


@given(
    gpu=st.sampled_from(TABLED),
    operand=st.sampled_from(["bf16", "fp8", "fp4"]),
    n=st.integers(1, 300_000),
    k=st.integers(1, 100_000),
)
def test_products_never_fall_in_m(gpu: str, operand: str, n: int, k: int) -> None:
    curve = tables(gpu).gemm(operand, n, k)
    if curve is not None:
        holds(curve)


@given(
    gpu=st.sampled_from(TABLED),
    operand=st.sampled_from(["bf16", "fp8"]),
    head_dim=st.sampled_from([64, 128, 256]),
    kv_heads=st.integers(1, 40),
    each=st.integers(1, 20),
    window=st.sampled_from([0, 128, 1024]),
)
def test_attention_never_falls(gpu: str, operand: str, head_dim: int, kv_heads: int, each: int, window: int) -> None:
    prefill = tables(gpu).prefill(operand, head_dim, kv_heads * each, kv_heads, window)
    decode = tables(gpu).decode(operand, head_dim, kv_heads * each, kv_heads, window)
    if prefill is not None:
        holds(prefill)
    if decode is not None:
        surface_holds(decode)


@pytest.mark.parametrize("gpu", TABLED)
def test_no_curve_of_experts_or_collectives_falls(gpu: str) -> None:
    mine = tables(gpu)
    for kind in ("moe", "collective"):
        table = mine.kinds[kind]
        for key in table.grid.keys[:: max(len(table.grid.keys) // 40, 1)]:
            curve = mine.moe(key) if kind == "moe" else mine.collective(str(key[0]), int(key[1]))
            assert curve is not None
            holds(curve)
