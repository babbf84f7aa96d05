"""Points and grids of measured kernels, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from profiles.errors import ProfileError
from profiles.kernel_grid import check_samples, grid_of, joined
from profiles.kernel_kinds import KINDS
from tests.kernel_cases import H100, MS, flat, gemm_grid, gemm_samples, samples

GOOD = gemm_samples({("bf16", 4096, 4096): flat(1.2), ("bf16", 8192, 4096): flat(1.3)})


def test_good_points_pass() -> None:
    check_samples(GOOD, H100)


@pytest.mark.parametrize("bad", [0.0, -1e-6, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused_with_its_row(bad: float) -> None:
    seconds = GOOD.seconds.copy()
    seconds[4] = bad
    with pytest.raises(ProfileError, match=r"^points, row 5: latency must be above 0"):
        check_samples(replace(GOOD, seconds=seconds), H100)


@pytest.mark.parametrize("bad", [0.0, 2.5, -3.0, float("nan")])
def test_a_size_that_cannot_be_is_refused_with_its_row(bad: float) -> None:
    m = np.array(GOOD.columns["m"], dtype=np.float64)
    m[6] = bad
    with pytest.raises(ProfileError, match=r"row 7: m must be a whole number"):
        check_samples(replace(GOOD, columns={**GOOD.columns, "m": m}), H100)


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e6])
def test_a_wrong_unit_is_refused(factor: float) -> None:
    with pytest.raises(ProfileError, match=r"row \d+: gemm takes .* unit or the device"):
        check_samples(replace(GOOD, seconds=GOOD.seconds * factor), H100)


def test_a_fault_in_a_joined_table_names_its_own_file() -> None:
    second = replace(GOOD, origins=("other",), seconds=np.where(GOOD.rows == 2, np.nan, GOOD.seconds))
    with pytest.raises(ProfileError, match=r"^other, row 2:"):
        check_samples(joined([GOOD, second]), H100)


def test_no_points_are_refused() -> None:
    empty = replace(GOOD, seconds=np.zeros(0), rows=np.zeros(0, dtype=np.int64))
    with pytest.raises(ProfileError, match="holds no gemm row"):
        check_samples(empty, H100)


def test_of_several_kernels_the_fastest_counts() -> None:
    slow = replace(GOOD, seconds=GOOD.seconds * 2)
    grid = grid_of(joined([slow, GOOD, slow]))
    np.testing.assert_allclose(grid.seconds.ravel(), grid_of(GOOD).seconds.ravel())
    assert grid.keys == (("bf16", 4096, 4096), ("bf16", 8192, 4096))
    assert grid.sizes.tolist() == list(MS)


def test_what_holds_nothing_is_left_out() -> None:
    grid = gemm_grid({("bf16", 4096, 4096): flat(1.2), ("fp8", 4096, 4096): flat(1.2)})
    seconds = grid.seconds.copy()
    seconds[0], seconds[:, :, 3] = np.nan, np.nan
    kept = grid.with_seconds(seconds)
    assert kept.keys == (("fp8", 4096, 4096),)
    assert kept.sizes.tolist() == [m for m in MS if m != 32]


def test_decode_points_have_batches() -> None:
    columns: dict[str, Sequence[Any]] = {
        "operand": ["bf16"] * 4,
        "head_dim": [128] * 4,
        "heads": [8] * 4,
        "kv_heads": [1] * 4,
        "window": [0] * 4,
        "batch": [1, 2, 1, 2],
        "context": [64, 64, 128, 128],
    }
    grid = grid_of(samples("decode_attention", columns, [1e-5, 2e-5, 3e-5, 4e-5]))
    assert grid.batches.tolist() == [1, 2] and grid.sizes.tolist() == [64, 128]
    np.testing.assert_allclose(grid.seconds[0], [[1e-5, 3e-5], [2e-5, 4e-5]])


def test_the_roofline_of_a_product_by_hand() -> None:
    """Source: 64 x 8192 x 7168 at bf16 moves 2 (n k + m k + m n) bytes; 3.35 TB/s, 989 TFLOPS."""
    work = KINDS["gemm"].work({"operand": np.array(["bf16"]), **{c: np.array([v]) for c, v in SHAPE.items()}}, H100)
    moved = 2 * (7168 * 8192 + 64 * 8192 + 64 * 7168)
    assert work.bytes_moved[0] == moved
    assert work.flops[0] == 2 * 64 * 7168 * 8192
    assert work.least_s[0] == pytest.approx(moved / H100.memory_bandwidth_bytes_per_s)


SHAPE = {"m": 64.0, "n": 7168.0, "k": 8192.0}


def test_a_window_bounds_what_attention_reads() -> None:
    base: dict[str, Sequence[Any]] = {
        "operand": ["bf16"] * 2,
        "head_dim": [128] * 2,
        "heads": [8] * 2,
        "kv_heads": [8] * 2,
    }
    columns = {**base, "window": [0, 128], "batch": [4, 4], "context": [1024, 1024]}
    points = samples("decode_attention", columns, [1e-5, 1e-5])
    whole, windowed = KINDS["decode_attention"].work(points.columns, H100).bytes_moved
    assert whole == 8 * windowed
