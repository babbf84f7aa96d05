"""Measured curves made whole: holes filled by efficiency, never falling, read between and beyond their points."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.evidence import Evidence
from profiles.kernel_lints import least_from_here
from profiles.roofline import FloatArray, Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Seconds at increasing sizes. `held`: points as they were measured; `last`: the largest size that was.

    `shape` is the strongest evidence this shape allows. Between points the time to the power of `exponent` is linear.
    """

    at: FloatArray
    seconds: FloatArray
    held: NDArray[np.bool_]
    last: float
    shape: Evidence
    exponent: float = 1.0

    def read(self, size: Number) -> FloatArray:
        """Seconds at any sizes: below the first point that point's, beyond the last in proportion to the size."""
        x = np.asarray(size, dtype=np.float64)
        inside = np.interp(x, self.at, self.seconds**self.exponent) ** (1.0 / self.exponent)
        return np.asarray(inside * np.maximum(x / self.at[-1], 1.0))

    def evidence(self, size: float) -> Evidence:
        """How the time at that size is known."""
        if self.shape is Evidence.MEASURED:
            return _evidence(self.at, self.held, size, self.last)
        return self.shape if size <= self.last else Evidence.SCALED


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Seconds at batches (rows) and contexts (columns) that increase; a query's batch is first times `batch_factor`."""

    batches: FloatArray
    contexts: FloatArray
    seconds: FloatArray
    held: NDArray[np.bool_]
    shape: Evidence
    batch_factor: float = 1.0

    def read(self, batch: Number, context: Number) -> FloatArray:
        """Seconds, linear in batch and in context; beyond either end in proportion, below either start as at it."""
        b, c = np.broadcast_arrays(
            np.asarray(batch, dtype=np.float64) * self.batch_factor, np.asarray(context, dtype=float)
        )
        low_b, part_b, more_b = _bracket(self.batches, b)
        low_c, part_c, more_c = _bracket(self.contexts, c)
        high_b, high_c = np.minimum(low_b + 1, self.batches.size - 1), np.minimum(low_c + 1, self.contexts.size - 1)
        t = self.seconds
        low = t[low_b, low_c] * (1 - part_c) + t[low_b, high_c] * part_c
        high = t[high_b, low_c] * (1 - part_c) + t[high_b, high_c] * part_c
        return np.asarray((low * (1 - part_b) + high * part_b) * more_b * more_c)

    def evidence(self, batch: float, context: float) -> Evidence:
        """How the time at that batch and context is known."""
        b = batch * self.batch_factor
        rows = np.flatnonzero(self.batches >= b)
        known = self.held[int(rows[0])] if rows.size else np.zeros(self.contexts.size, dtype=bool)
        last = float(self.contexts[known][-1]) if known.any() else 0.0
        if self.shape is not Evidence.MEASURED:
            return self.shape if context <= last else Evidence.SCALED
        if self.batches[int(rows[0])] != b if rows.size else True:
            return Evidence.INTERPOLATED if context <= last else Evidence.SCALED
        return _evidence(self.contexts, known, context, last)


def _evidence(at: FloatArray, held: NDArray[np.bool_], size: float, last: float) -> Evidence:
    if size > last:
        return Evidence.SCALED
    return Evidence.MEASURED if size in at[held] else Evidence.INTERPOLATED


def _bracket(points: FloatArray, x: FloatArray) -> tuple[NDArray[np.intp], FloatArray, FloatArray]:
    """(index of the point below, how far towards the next one, factor beyond the last)."""
    low = np.clip(np.searchsorted(points, x, side="right") - 1, 0, max(points.size - 2, 0))
    if points.size == 1:
        return low, np.zeros(x.shape), np.maximum(x / points[0], 1.0)
    part = np.clip((x - points[low]) / (points[low + 1] - points[low]), 0.0, 1.0)
    return low, part, np.maximum(x / points[-1], 1.0)


def fill(seconds: FloatArray, reference_s: FloatArray, sizes: FloatArray) -> FloatArray:
    """Curves [key, batch, size] without holes: in a hole the ratio to the reference is that of its neighbours.

    Along the size the logarithm of the ratio is linear in that of the size, and held beyond the ends; a batch that has
    no point takes the ratios of the nearest one that has. Points that do not fall stay as they are, others become so.
    """
    measured = _not_falling(seconds)
    ratio = np.full(measured.shape, np.nan)
    log_sizes = np.log(sizes)
    for key in range(measured.shape[0]):
        for batch in range(measured.shape[1]):
            held = np.isfinite(measured[key, batch])
            if held.any():
                known = np.log(measured[key, batch, held] / reference_s[key, batch, held])
                ratio[key, batch] = np.interp(log_sizes, log_sizes[held], known)
        _nearest_rows(ratio[key])
    return not_falling_between(np.exp(ratio) * reference_s, measured)


def _nearest_rows(ratio: FloatArray) -> None:
    """Give rows without a value those of the nearest row that has some."""
    known = np.flatnonzero(np.isfinite(ratio).all(axis=1))
    for row in np.flatnonzero(~np.isfinite(ratio).all(axis=1)) if known.size else ():
        ratio[row] = ratio[known[np.argmin(np.abs(known - row))]]


def _not_falling(seconds: FloatArray) -> FloatArray:
    """The points that no later one undercuts; nan for the others."""
    return np.where(seconds <= least_from_here(seconds), seconds, np.nan)


def not_falling_between(guess: FloatArray, measured: FloatArray) -> FloatArray:
    """The guesses, brought between the measured points around them; what comes back never falls along a size."""
    above = least_from_here(measured)
    below = -np.flip(least_from_here(np.flip(-measured, (1, 2))), (1, 2))
    inside = np.where(np.isfinite(measured), measured, np.clip(guess, np.where(np.isfinite(below), below, 0.0), above))
    for axis in (2, 1):
        inside = np.maximum.accumulate(inside, axis=axis)
    return inside
