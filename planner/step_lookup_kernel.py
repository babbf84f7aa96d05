"""Reading a step table from compiled code: see `profiles.step_table.StepTable` for what the grids mean."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from profiles.step_table import PREFILL_GRID_TOKENS

FloatArray = NDArray[np.float64]


@njit(cache=True, nogil=True)
def dense_s(values: FloatArray, position: float) -> float:
    """Seconds at a (possibly fractional) position of a dense table; the last slope goes on beyond its end."""
    last = values.shape[0] - 1
    index = min(int(position), last - 1)
    return values[index] + (position - index) * (values[index + 1] - values[index])


@njit(cache=True, nogil=True)
def prefill_attention_s(values: FloatArray, tokens: float) -> float:
    """Seconds of prefill attention over one prompt of so many tokens, from its start."""
    return dense_s(values, tokens / PREFILL_GRID_TOKENS)


@njit(cache=True, nogil=True)
def _octave(value: float, last: int) -> tuple[int, float]:
    """(i, fraction) with value = 2^i · (1 + fraction), i clipped to the grid."""
    exponent = math.frexp(value)[1] - 1
    index = min(max(exponent, 0), last - 1)
    return index, value / 2.0**index - 1.0


@njit(cache=True, nogil=True)
def decode_attention_s(values: FloatArray, batch: float, kv_tokens: float) -> float:
    """Seconds of decode attention of a batch that holds so many KV tokens together; 0 for an empty batch."""
    if batch <= 0.0:
        return 0.0
    i, u = _octave(batch, values.shape[0] - 1)
    j, v = _octave(max(kv_tokens, 1.0), values.shape[1] - 1)
    low = values[i, j] + v * (values[i, j + 1] - values[i, j])
    high = values[i + 1, j] + v * (values[i + 1, j + 1] - values[i + 1, j])
    return low + u * (high - low)
