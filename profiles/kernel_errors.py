"""How far off the tables are on what they have not seen: points and whole shapes left out, and read from the rest."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from profiles.gpus import Gpu
from profiles.kernel_curves import Curve, Surface, fill
from profiles.kernel_grid import Grid
from profiles.kernel_kinds import Key
from profiles.kernel_store import TableError
from profiles.kernel_table import KernelTables, KindTable, latent_attention
from profiles.roofline import FloatArray

FOLDS = 5
UNSEEN_PARTS = {
    "gemm": (1, 2),
    "prefill_attention": (2,),
    "decode_attention": (2,),
    "mla_prefill": (1,),
    "mla_decode": (1,),
}
"""Parts of the key between whose values shapes are interpolated."""


def left_out_error(grid: Grid, gpu: Gpu) -> TableError | None:
    """Every fifth inner size of all curves left out and read from the rest, for each fifth; against the raw times."""
    reference_s = grid.kind.work(grid.columns(), gpu).reference_s.reshape(grid.seconds.shape)
    exponent = 0.5 if grid.kind.size == "tokens" and "attention" in grid.kind.name else 1.0
    inner = np.arange(1, grid.sizes.size - 1)
    errors = []
    for fold in range(FOLDS):
        out = inner[inner % FOLDS == fold]
        rest = np.setdiff1d(np.arange(grid.sizes.size), out)
        if not out.size:
            continue
        filled = fill(grid.seconds[:, :, rest], reference_s[:, :, rest], grid.sizes[rest])
        read = _interpolated(filled**exponent, grid.sizes[rest], grid.sizes[out]) ** (1 / exponent)
        inside = _inside(grid.seconds[:, :, rest], grid.sizes[rest], grid.sizes[out])
        errors.append(np.abs(read / grid.seconds[:, :, out] - 1)[inside & np.isfinite(grid.seconds[:, :, out])])
    return _summary(errors)


def unseen_shape_error(grid: Grid, gpu: Gpu) -> TableError | None:
    """Each inner value of n, k or heads left out of the table and its curves read from the rest; raw times."""
    errors = []
    for part in UNSEEN_PARTS.get(grid.kind.name, ()):
        for mine in _inner_values(grid, part):
            rest = replace(
                grid,
                keys=tuple(k for k, out in zip(grid.keys, mine.tolist(), strict=True) if not out),
                seconds=grid.seconds[~mine],
            )
            tables = KernelTables(gpu=gpu, kinds={grid.kind.name: KindTable(grid=rest, gpu=gpu)})
            for row in np.flatnonzero(mine).tolist():
                read = _read_key(tables, grid, grid.keys[row])
                if read is not None:
                    error = np.abs(read / grid.seconds[row] - 1)
                    errors.append(error[np.isfinite(error)])
    return _summary(errors)


def _inner_values(grid: Grid, part: int) -> Iterator[NDArray[np.bool_]]:
    """For each value of a part of the key but the least and the largest: the curves that have it."""
    values = np.array([float(key[part]) for key in grid.keys])
    for value in np.unique(values)[1:-1]:
        yield values == value


def _read_key(tables: KernelTables, grid: Grid, key: Key) -> FloatArray | None:
    """[batch, size] times of a key at the grid's points."""
    found: Curve | Surface | None
    match grid.kind.name:
        case "gemm":
            found = tables.gemm(*key)  # type: ignore[arg-type]
        case "prefill_attention":
            found = tables.prefill(*key)  # type: ignore[arg-type]
        case "decode_attention":
            found = tables.decode(*key)  # type: ignore[arg-type]
        case _:
            found = latent_attention(tables.kinds[grid.kind.name], str(key[0]), int(key[1]))
    if found is None:
        return None
    if isinstance(found, Curve):
        return found.read(grid.sizes)[None]
    return found.read(grid.batches[:, None], grid.sizes[None, :])


def _interpolated(values: FloatArray, at: FloatArray, wanted: FloatArray) -> FloatArray:
    high = np.searchsorted(at, wanted)
    part = (wanted - at[high - 1]) / (at[high] - at[high - 1])
    return np.asarray(values[:, :, high - 1] * (1 - part) + values[:, :, high] * part)


def _inside(seconds: FloatArray, at: FloatArray, wanted: FloatArray) -> NDArray[np.bool_]:
    """Which wanted sizes lie between two measured points of their curve."""
    held = np.isfinite(seconds)[:, :, :, None]
    below, above = (at[:, None] < wanted[None, :]), (at[:, None] > wanted[None, :])
    return np.asarray((held & below).any(axis=2) & (held & above).any(axis=2))


def _summary(errors: list[FloatArray]) -> TableError | None:
    every = np.concatenate(errors) if errors else np.zeros(0)
    if not every.size:
        return None
    return TableError(
        points=int(every.size),
        median_error_fraction=round(float(np.median(every)), 4),
        p90_error_fraction=round(float(np.quantile(every, 0.9)), 4),
    )
