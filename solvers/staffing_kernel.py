"""Compiled cover dynamic programme; `tests/unit/test_mix_staffing.py` has its slow reference."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def cover_costs(
    starts: NDArray[np.int64],
    copies: NDArray[np.int64],
    units: NDArray[np.int64],
    weights: NDArray[np.float64],
    total_units: int,
) -> NDArray[np.float64]:
    """[classes + 1, units + 1]: least Σ weight · copies over classes j.. that covers k units; inf where none does.

    Options of class j are starts[j]..starts[j + 1]: `copies` of it cover `units`, and at most one option is taken.
    """
    classes = len(weights)
    table = np.full((classes + 1, total_units + 1), np.inf)
    table[classes, 0] = 0.0
    for j in range(classes - 1, -1, -1):
        after = table[j + 1]
        for k in range(total_units + 1):
            best = after[k]
            for i in range(starts[j], starts[j + 1]):
                left = k - units[i]
                cost = weights[j] * copies[i] + after[left if left > 0 else 0]
                if cost < best:
                    best = cost
            table[j, k] = best
    return table
