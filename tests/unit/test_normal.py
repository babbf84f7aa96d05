"""The normal distribution on arrays against Python's own."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from profiles.normal import normal_cdf, normal_quantile, normal_quantiles

LEVELS = [1e-10, 1e-4, 0.01, 0.02424, 0.02426, 0.3, 0.5, 0.9, 0.97574, 0.97576, 0.9999, 1 - 1e-10]


def test_quantiles() -> None:
    expected = [NormalDist().inv_cdf(level) for level in LEVELS]
    assert normal_quantiles(np.array(LEVELS)) == pytest.approx(expected, abs=1e-7)
    assert [normal_quantile(level) for level in LEVELS] == pytest.approx(expected)
    assert (normal_quantile(0.0), normal_quantile(1.0)) == (-math.inf, math.inf)


def test_the_ends_are_finite() -> None:
    assert np.isfinite(normal_quantiles(np.array([0.0, 1.0]))).all()


def test_distribution_function() -> None:
    z = np.linspace(-9, 9, 501)
    assert normal_cdf(z) == pytest.approx([NormalDist().cdf(x) for x in z], abs=1e-6)
