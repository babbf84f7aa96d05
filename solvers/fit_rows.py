"""Rows that say whether groups can fit on nodes by size alone: necessary always, sufficient for powers of two."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def fit_rows_hold(sizes: Sequence[int], free: Sequence[int]) -> bool:
    """Whether Σ floor(size/t) <= Σ floor(free/t) for every t: each group of one node, `free` GPUs left on each node.

    False proves that the groups do not fit. True proves that they do when all sizes are powers of two: placing large
    before small never wastes a block then. Raises ValueError on sizes below 1 or free counts below 0.
    """
    return broken_row(sizes, free) is None


def broken_row(sizes: Sequence[int], free: Sequence[int]) -> int | None:
    """The largest t whose row is broken, or None. Raises ValueError as `fit_rows_hold` does."""
    wanted, left = _whole_numbers("sizes", sizes, 1), _whole_numbers("free", free, 0)
    for t in range(int(wanted.max(initial=0)), 0, -1):
        if blocks(wanted, t) > blocks(left, t):
            return t
    return None


def blocks(counts: Iterable[int] | NDArray[np.int64], t: int) -> int:
    """How many blocks of t GPUs can be cut from the counts."""
    return int((np.asarray(counts, dtype=np.int64) // t).sum())


def _whole_numbers(name: str, values: Sequence[int], least: int) -> NDArray[np.int64]:
    given = np.asarray(values)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise ValueError(f"{name} must be a list of whole numbers")
    if given.size and given.min() < least:
        raise ValueError(f"{name} must be at least {least}, but holds {given.min()}")
    return given.astype(np.int64)
