"""The laws by which kernels' times are scaled: a roofline with a soft ridge and a launch floor.

Every law is non-decreasing in the work it is given: bytes or operations in, seconds out; arguments may be arrays.
Roofline: Williams, Waterman, Patterson, CACM 52(4), 2009.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Number = float | FloatArray

QUERY_TILE_ROWS = 128
"""Rows of queries that one SM works through in a flash-attention kernel (arXiv 2307.08691, section 3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What a device reaches for one kind of kernel: a floor, two ceilings and how sharply they meet."""

    launch_s: float
    bytes_per_s: float
    flops_per_s: float
    sharpness: float


def soft_max(first: Number, second: Number, sharpness: float) -> FloatArray:
    """(a^p + b^p)^(1/p) of two non-negative times: their sum at p = 1, the larger one as p grows."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    high = np.maximum(a, b)
    ratio = np.divide(np.minimum(a, b), high, out=np.zeros(np.shape(high)), where=high > 0)
    return np.asarray(high * (1.0 + ratio**sharpness) ** (1.0 / sharpness))


def roof_s(roof: Roof, bytes_moved: Number, flops: Number) -> FloatArray:
    """Seconds of a kernel that moves so many bytes and does so many operations."""
    memory_s = np.asarray(bytes_moved) / roof.bytes_per_s
    return roof.launch_s + soft_max(memory_s, np.asarray(flops) / roof.flops_per_s, roof.sharpness)


def matmul_bytes(m: Number, n: float, k: float, weight_bytes: float, activation_bytes: float) -> Number:
    """Bytes an (m, k) x (k, n) product moves: weights and inputs once, outputs at 16 bit."""
    return weight_bytes * n * k + m * (activation_bytes * k + 2.0 * n)


def experts_touched(tokens: Number, experts: float, experts_per_token: float) -> FloatArray:
    """Expected number of experts that some token is routed to, for uniform routing: E (1 - (1 - k/E)^T)."""
    return np.asarray(experts * (1.0 - (1.0 - experts_per_token / experts) ** np.asarray(tokens, dtype=np.float64)))


def causal_pairs(tokens: Number, window: float | None = None) -> FloatArray:
    """Query-key pairs of causal attention over a prompt: half a square, or what of it lies within `window` tokens."""
    length = np.asarray(tokens, dtype=np.float64)
    pairs = 0.5 * length**2
    return pairs if window is None else pairs - 0.5 * np.maximum(length - window, 0.0) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillLaw:
    """Prefill attention: a floor, a part linear in heads x tokens, the longer of arithmetic and one SM's path.

    `extra_pairs` are the query-key pairs that the linear part of one query of one head costs; `path_flops_per_s` is the
    rate of one SM that works through the last tile of queries against all keys.
    """

    launch_s: float
    flops_per_s: float
    extra_pairs: float
    path_flops_per_s: float
    sharpness: float


def prefill_attention_s(
    law: PrefillLaw, heads: float, flops_per_pair: float, tokens: Number, window: float | None = None
) -> FloatArray:
    """Seconds of attention over one prompt of `tokens` tokens (0: none) with `heads` query heads on the device."""
    length = np.asarray(tokens, dtype=np.float64)
    seen = length if window is None else np.minimum(length, window)
    pairs = causal_pairs(length, window) * heads
    path_s = QUERY_TILE_ROWS * flops_per_pair * seen / law.path_flops_per_s
    linear_s = law.extra_pairs * length * heads * flops_per_pair / law.flops_per_s
    time_s = law.launch_s + linear_s + soft_max(pairs * flops_per_pair / law.flops_per_s, path_s, law.sharpness)
    return np.where(length > 0, time_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLaw:
    """Decode attention: a floor, a part per sequence and KV head, the longer of reading the cache and arithmetic."""

    launch_s: float
    bytes_per_s: float
    sequence_head_s: float
    flops_per_s: float


def decode_attention_s(law: DecodeLaw, sequence_heads: Number, kv_bytes: Number, flops: Number) -> FloatArray:
    """Seconds of attention of one new token each over a cache; `sequence_heads`: sequences x KV heads on the device."""
    cache_s = np.maximum(np.asarray(kv_bytes) / law.bytes_per_s, np.asarray(flops) / law.flops_per_s)
    return np.asarray(law.launch_s + law.sequence_head_s * np.asarray(sequence_heads) + cache_s)
