"""Each lint finds the fault it is for, says so, and leaves the rest alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from profiles.gpus import load_gpu
from profiles.kernel_grid import Grid, grid_of
from profiles.kernel_lints import Finding, drop_falling, findings_text, least_from_here, lint
from tests.kernel_cases import H100, MS, flat, gemm_grid, samples


def named(findings: tuple[Finding, ...] | list[Finding], rule: str) -> Finding:
    """The one finding of a rule."""
    (found,) = [f for f in findings if f.rule == rule]
    return found


def all_reduce(us: list[float], gpu: str = "h100-sxm-80gb") -> tuple[Grid, tuple[Finding, ...]]:
    """The linted all-reduce of 8 GPUs at 64 KiB, 256 KiB, 1 MiB, …"""
    count = len(us)
    columns: dict[str, Sequence[Any]] = {"operation": ["all_reduce"] * count, "gpus": [8] * count}
    columns["bytes"] = [2**16 * 4**i for i in range(count)]
    return lint(grid_of(samples("collective", columns, [t * 1e-6 for t in us])), load_gpu(gpu))


def test_a_clean_table_has_no_findings() -> None:
    grid = gemm_grid({("bf16", 4096, 4096): flat(1.2), ("fp8", 4096, 4096): flat(1.3)})
    kept, found = lint(grid, H100)
    last, fallen = drop_falling(kept)
    assert found == () and fallen == []
    np.testing.assert_array_equal(last.seconds, grid.seconds)


def test_faster_than_the_roofline_is_left_out() -> None:
    kept, found = lint(gemm_grid({("bf16", 8192, 8192): [0.4, *flat(1.2)[1:]]}), H100)
    finding = named(found, "faster than roofline")
    assert (finding.points, finding.of_points, finding.subject) == (1, len(MS), "bf16")
    assert finding.worst == pytest.approx(1 / 0.4, rel=0.15)
    assert 1.0 not in kept.sizes


def test_a_lone_dip_is_left_out() -> None:
    factors = flat(4.0)
    factors[5] = 1.5
    kept, found = lint(gemm_grid({("bf16", 4096, 4096): factors}), H100)
    assert named(found, "far faster than its neighbours").points == 1
    assert MS[5] not in kept.sizes


def test_a_narrow_type_that_reads_large_weights_slower_goes_as_a_whole() -> None:
    shapes = [(n, k) for n in (2048, 8192) for k in (2048, 8192)]
    factors = {("bf16", *s): flat(1.1) for s in shapes} | {("fp8_block", *s): flat(4.0) for s in shapes}
    kept, found = lint(gemm_grid(factors), H100)
    assert {key[0] for key in kept.keys} == {"bf16"}
    assert "operand type left out" in named(found, "slower than a wider type").action


def test_a_narrow_type_that_is_slower_here_and_there_stays() -> None:
    factors = {("bf16", 8192, n): flat(1.1) for n in (2048, 4096, 8192)}
    factors |= {("fp8", 8192, n): flat(1.1) for n in (4096, 8192)} | {("fp8", 8192, 2048): flat(3.0)}
    kept, found = lint(gemm_grid(factors), H100)
    assert {key[0] for key in kept.keys} == {"bf16", "fp8"}
    assert named(found, "slower than a wider type").action == "kept"


def test_a_narrow_cache_that_is_read_slower_is_told() -> None:
    contexts = [1024, 4096, 16384]
    columns: dict[str, Sequence[Any]] = {"operand": ["bf16"] * 3 + ["fp8"] * 3, "heads": [16] * 6, "batch": [8] * 6}
    columns["context"] = contexts * 2
    times = [1e-4, 2e-4, 4e-4, 1e-4, 5e-4, 12e-4]
    kept, found = lint(grid_of(samples("mla_decode", columns, times)), H100)
    finding = named(found, "slower than a wider type")
    assert (finding.points, finding.subject, finding.action) == (2, "fp8", "kept")
    assert finding.worst == pytest.approx(3.0)
    assert np.isfinite(kept.seconds).sum() == 6


def test_flat_overhead_is_left_out() -> None:
    least = gemm_grid({("bf16", 8192, 8192): flat(1.0)}).seconds.ravel()
    slow = [max(300e-6 / t, 1.2) for t in least]
    kept, found = lint(gemm_grid({("bf16", 8192, 8192): slow, ("bf16", 4096, 8192): flat(1.2)}), H100)
    assert named(found, "flat overhead").points == len(MS)
    assert kept.keys == (("bf16", 4096, 8192),)


def test_a_slow_host_s_links_are_left_out() -> None:
    large_s = 2 * 7 / 8 * 2**26 / 32e9 * 10
    slow = [large_s * 1e6 * 4.0 ** (i - 5) for i in range(7)]
    kept, found = all_reduce(slow, "l40s-48gb")
    assert kept.keys == ()
    assert named(found, "implausible link bandwidth").worst > 4


def test_a_bump_in_a_collective_is_left_out() -> None:
    kept, found = all_reduce([8.0, 26.0, 20.0, 40.0, 120.0])
    assert named(found, "slower than its neighbours allow").points == 1
    assert kept.sizes.tolist() == [2**16, 2**20, 2**22, 2**24]


def test_two_modes_are_told_and_the_upper_one_goes() -> None:
    ms = tuple(range(1, 17))
    factors = [1.2 if m % 2 else 2.4 for m in ms]
    kept, found = lint(gemm_grid({("fp8", 8192, 8192): factors}, ms), H100)
    assert named(found, "two modes").points == 7
    last, fallen = drop_falling(kept)
    assert last.sizes.tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 16]
    assert named(fallen, "falls by over 2%").points == 7


def test_what_falls_by_little_is_told_apart() -> None:
    grid = gemm_grid({("bf16", 4096, 4096): flat(1.2)})
    seconds = grid.seconds.copy()
    seconds[0, 0, 3], seconds[0, 0, 6] = seconds[0, 0, 4] * 1.01, seconds[0, 0, 7] * 1.5
    kept, fallen = drop_falling(grid.with_seconds(seconds))
    assert named(fallen, "falls as work grows").points == 1
    assert named(fallen, "falls by over 2%").worst == pytest.approx(1.5)
    assert kept.sizes.tolist() == [m for i, m in enumerate(MS) if i not in (3, 6)]


def test_findings_are_one_line_each() -> None:
    _, found = all_reduce([8.0, 26.0, 20.0, 40.0, 120.0])
    (line,) = findings_text(found)
    assert line.startswith("collective all_reduce: slower than its neighbours allow: 1 of 5 points")


def test_the_least_from_here_looks_along_both_sizes() -> None:
    seconds = np.array([[[5.0, 6.0], [4.0, np.nan]]])
    assert least_from_here(seconds).tolist() == [[[4.0, 6.0], [4.0, np.inf]]]
