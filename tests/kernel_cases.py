"""Small kernel tables for tests: points made from a law, as samples and grids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from profiles.gpus import Gpu, load_gpu
from profiles.kernel_grid import Grid, Samples, grid_of, samples_of
from profiles.kernel_kinds import KINDS, Column

H100 = load_gpu("h100-sxm-80gb")
MS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def samples(kind: str, columns: Mapping[str, Sequence[Any]], seconds: Sequence[float]) -> Samples:
    """Points with row numbers from 1."""
    made: dict[str, Column] = {name: np.array(values) for name, values in columns.items()}
    return samples_of(KINDS[kind], "points", made, np.array(seconds), np.arange(1, len(seconds) + 1))


def gemm_samples(
    factors: Mapping[tuple[str, int, int], Sequence[float]], ms: Sequence[int] = MS, gpu: Gpu = H100
) -> Samples:
    """GEMM points at so many times their reference time: one factor for each m."""
    rows = [(o, n, k, m) for (o, n, k), f in factors.items() for m in ms[: len(f)]]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("operand", "n", "k", "m"))}
    made: dict[str, Column] = {name: np.array(values) for name, values in columns.items()}
    reference_s = KINDS["gemm"].work(made, gpu).reference_s
    times = reference_s * np.concatenate([np.asarray(f, dtype=np.float64) for f in factors.values()])
    return samples_of(KINDS["gemm"], "points", made, times, np.arange(1, len(times) + 1))


def gemm_grid(factors: Mapping[tuple[str, int, int], Sequence[float]], ms: Sequence[int] = MS) -> Grid:
    """The grid of `gemm_samples`."""
    return grid_of(gemm_samples(factors, ms))


def flat(factor: float) -> list[float]:
    """The same factor for every m."""
    return [factor] * len(MS)
