"""Distributions of one length by their quantile function; a length in tokens is its value rounded, at least 1."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from profiles.normal import FloatArray, normal_cdf, normal_quantile, normal_quantiles


class Marginal(Protocol):
    """A distribution of positive lengths."""

    def values(self, levels: FloatArray) -> FloatArray:
        """The quantiles at an array of levels in (0, 1)."""
        ...

    def level(self, length: float) -> float:
        """The share of lengths at most this long."""
        ...

    def mean(self, low: float, high: float) -> float:
        """The mean length between two levels, low < high."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LognormalLength:
    """Lognormal with a given mean and coefficient of variation; cv 0 is a fixed length."""

    length_mean: float
    cv: float

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm: σ² = ln(1 + cv²)."""
        return math.sqrt(math.log1p(self.cv**2))

    @property
    def mu(self) -> float:
        """Mean of the logarithm: ln(mean) − σ²/2."""
        return math.log(self.length_mean) - 0.5 * self.sigma**2

    def values(self, levels: FloatArray) -> FloatArray:
        """The quantiles at an array of levels in (0, 1)."""
        if self.cv == 0:
            return np.full(np.shape(levels), self.length_mean)
        return np.asarray(np.exp(self.mu + self.sigma * normal_quantiles(levels)))

    def level(self, length: float) -> float:
        """The share of lengths at most this long."""
        if length <= 0:
            return 0.0
        if self.sigma == 0:
            return 1.0 if length >= self.length_mean else 0.0
        return _phi((math.log(length) - self.mu) / self.sigma)

    def mean(self, low: float, high: float) -> float:
        """The mean length between two levels (a partial expectation of the lognormal)."""
        upper, lower = normal_quantile(high) - self.sigma, normal_quantile(low) - self.sigma
        return self.length_mean * (_phi(upper) - _phi(lower)) / (high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class TabulatedLength:
    """A quantile table, linear between its points: `lengths[i]` tokens at `levels[i]`; levels increase from 0 to 1."""

    levels: FloatArray
    lengths: FloatArray

    def values(self, levels: FloatArray) -> FloatArray:
        """The quantiles at an array of levels in (0, 1)."""
        return np.interp(levels, self.levels, self.lengths)

    def level(self, length: float) -> float:
        """The share of lengths at most this long."""
        after = int(np.searchsorted(self.lengths, length, side="right"))
        if after in (0, len(self.lengths)):
            return float(after > 0)
        below, above = self.lengths[after - 1], self.lengths[after]
        share = (length - below) / (above - below)
        return float(self.levels[after - 1] + share * (self.levels[after] - self.levels[after - 1]))

    def mean(self, low: float, high: float) -> float:
        """The mean length between two levels (the integral of the quantile function over them)."""
        inside = self.levels[(self.levels > low) & (self.levels < high)]
        points = np.concatenate([[low], inside, [high]])
        return float(np.trapezoid(self.values(points), points) / (high - low))


def rounded_tokens(lengths: FloatArray) -> NDArray[np.int64]:
    """Whole tokens, at least one."""
    return np.maximum(1, np.rint(lengths)).astype(np.int64)


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0)) if abs(z) < math.inf else float(z > 0)


def normal_levels(z: FloatArray) -> FloatArray:
    """Φ(z), kept inside (0, 1)."""
    return np.clip(normal_cdf(z), 1e-12, 1.0 - 1e-12)
