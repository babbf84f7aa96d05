"""Times for shapes that were measured, that lie between measured ones, and that lie outside."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from profiles.evidence import Evidence
from profiles.kernel_grid import grid_of
from profiles.kernel_kinds import KINDS
from profiles.kernel_table import KernelTables, KindTable, between
from profiles.models import LatentAttention, load_model
from tests.kernel_cases import H100, MS, flat, gemm_grid, samples

SHAPES = {("bf16", n, k): flat(f) for (n, f) in ((2048, 1.2), (8192, 1.8)) for k in (2048, 8192)}
TABLES = KernelTables(gpu=H100, kinds={"gemm": KindTable(grid=gemm_grid(SHAPES), gpu=H100)})


def reference_s(n: int, k: int) -> Any:
    """Reference times over MS."""
    columns = {"operand": np.array(["bf16"] * len(MS)), "m": np.array(MS, dtype=float)}
    columns |= {"n": np.full(len(MS), float(n)), "k": np.full(len(MS), float(k))}
    return KINDS["gemm"].work(columns, H100).reference_s


def attention(kv_heads: Sequence[int], heads_each: Sequence[int]) -> KernelTables:
    """Decode and prefill tables whose times are the reference times."""
    grids = {}
    for kind, sizes in (("decode_attention", (64, 1024, 16384)), ("prefill_attention", (64, 1024, 16384))):
        rows = [(kv * e, kv, b, s) for kv in kv_heads for e in heads_each for b in (1, 8, 64) for s in sizes]
        columns: dict[str, Sequence[Any]] = {
            "operand": ["bf16"] * len(rows),
            "head_dim": [128] * len(rows),
            "heads": [r[0] for r in rows],
            "kv_heads": [r[1] for r in rows],
            "window": [0] * len(rows),
            KINDS[kind].size: [r[3] for r in rows],
        }
        if KINDS[kind].batch:
            columns["batch"] = [r[2] for r in rows]
        made = samples(kind, columns, [1.0] * len(rows))
        times = KINDS[kind].work(made.columns, H100).reference_s
        grids[kind] = KindTable(grid=grid_of(samples(kind, columns, times.tolist())), gpu=H100)
    return KernelTables(gpu=H100, kinds=grids)


def test_a_measured_shape_comes_back_as_measured() -> None:
    curve = TABLES.gemm("bf16", 2048, 8192)
    assert curve is not None
    np.testing.assert_allclose(curve.read(np.array(MS)), 1.2 * reference_s(2048, 8192), rtol=1e-12)
    assert curve.evidence(64) is Evidence.MEASURED
    assert curve.evidence(65) is Evidence.INTERPOLATED


def test_a_shape_between_has_the_efficiency_between() -> None:
    curve = TABLES.gemm("bf16", 4096, 4096)
    assert curve is not None
    factor = np.sqrt(1.2 * 1.8)
    np.testing.assert_allclose(curve.read(np.array(MS)), factor * reference_s(4096, 4096), rtol=1e-9)
    assert curve.evidence(64) is Evidence.INTERPOLATED


def test_a_shape_outside_has_the_nearest_efficiency() -> None:
    curve = TABLES.gemm("bf16", 128_256, 8192)
    assert curve is not None
    np.testing.assert_allclose(curve.read(np.array(MS)), 1.8 * reference_s(128_256, 8192), rtol=1e-9)
    assert curve.evidence(64) is Evidence.SCALED


def test_beyond_the_largest_m_the_efficiency_stays() -> None:
    curve = TABLES.gemm("bf16", 8192, 8192)
    assert curve is not None
    columns = {"operand": np.array(["bf16"]), **{c: np.array([8192.0]) for c in ("n", "k")}, "m": np.array([16384.0])}
    wanted = 1.8 * KINDS["gemm"].work(columns, H100).reference_s
    assert float(curve.read(16384)) == pytest.approx(float(wanted[0]))
    assert curve.evidence(16384) is Evidence.SCALED


def test_what_no_table_covers_is_none() -> None:
    assert TABLES.gemm("fp4", 2048, 2048) is None
    assert TABLES.prefill("bf16", 128, 8, 1, 0) is None
    assert TABLES.decode("bf16", 128, 8, 1, 0) is None
    assert TABLES.moe(("bf16", 1, 1, 1, 1, 1, 1)) is None
    assert TABLES.collective("all_reduce", 8) is None
    mla = load_model("deepseek-v3").mla
    assert mla is not None and TABLES.latent_prefill("bf16", mla, 16) is None


def test_heads_between_are_read_by_efficiency() -> None:
    tables = attention((1, 2), (4, 8))
    for found in (tables.prefill("bf16", 128, 7, 1, 0), tables.decode("bf16", 128, 7, 1, 0)):
        assert found is not None and found.shape is Evidence.INTERPOLATED
    decode = tables.decode("bf16", 128, 7, 1, 0)
    assert decode is not None
    columns = {"operand": np.array(["bf16"]), "window": np.array([0.0]), "kv_heads": np.array([1.0])}
    columns |= {"head_dim": np.array([128.0]), "heads": np.array([7.0])}
    columns |= {"batch": np.array([64.0]), "context": np.array([1024.0])}
    wanted = KINDS["decode_attention"].work(columns, H100).reference_s
    assert float(decode.read(64, 1024)) == pytest.approx(float(wanted[0]))


def test_more_kv_heads_than_measured_are_a_larger_batch() -> None:
    tables = attention((1, 2), (1,))
    many, few = tables.decode("bf16", 128, 40, 40, 0), tables.decode("bf16", 128, 2, 2, 0)
    assert many is not None and few is not None
    assert float(many.read(1, 1024)) == pytest.approx(float(few.read(20, 1024)))
    assert many.evidence(1, 1024) is Evidence.INTERPOLATED


def test_a_window_or_head_size_that_was_not_measured_is_none() -> None:
    tables = attention((1, 2), (4,))
    assert tables.prefill("bf16", 128, 4, 1, 4096) is None
    assert tables.decode("bf16", 96, 4, 1, 0) is None


def test_latents_of_other_widths_are_none() -> None:
    mla = LatentAttention(q_lora_rank=None, kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64)
    columns: dict[str, Sequence[Any]] = {"operand": ["bf16"] * 2, "heads": [16] * 2, "tokens": [64, 128]}
    grid = grid_of(samples("mla_prefill", columns, [1e-5, 2e-5]))
    tables = KernelTables(gpu=H100, kinds={"mla_prefill": KindTable(grid=grid, gpu=H100)})
    assert tables.latent_prefill("bf16", mla, 16) is None
    deepseek = load_model("deepseek-v3").mla
    assert deepseek is not None and tables.latent_prefill("bf16", deepseek, 16) is not None


def test_between_gives_log_weights() -> None:
    known = np.array([2.0, 8.0, 32.0])
    np.testing.assert_allclose(between(known, 4.0), [(2.0, 0.5), (8.0, 0.5)])
    assert between(known, 8.0) == [(8.0, 1.0)]
    assert between(known, 1.0) == [(2.0, 1.0)]
    assert between(known, 99.0) == [(32.0, 1.0)]
