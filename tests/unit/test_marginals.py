"""Distributions of one length."""

import numpy as np
import pytest

from profiles.marginals import LognormalLength, TabulatedLength, rounded_tokens

GRID = (np.arange(200_000) + 0.5) / 200_000


@pytest.mark.parametrize(
    "marginal",
    [
        LognormalLength(length_mean=1155, cv=0.9),
        LognormalLength(length_mean=20, cv=0.0),
        TabulatedLength(levels=np.array([0.0, 0.2, 0.7, 1.0]), lengths=np.array([1.0, 40.0, 40.0, 900.0])),
    ],
)
def test_means_and_levels_agree_with_the_quantiles(marginal: LognormalLength | TabulatedLength) -> None:
    values = marginal.values(GRID)
    assert marginal.mean(0.0, 1.0) == pytest.approx(values.mean(), rel=1e-3)
    inside = (GRID > 0.25) & (GRID < 0.8)
    assert marginal.mean(0.25, 0.8) == pytest.approx(values[inside].mean(), rel=1e-3)
    for length in (0.0, 10.0, 39.5, 40.5, 700.0, 1e7):
        assert marginal.level(length) == pytest.approx((values <= length).mean(), abs=1e-4)


def test_a_lognormal_has_its_mean_and_cv() -> None:
    values = LognormalLength(length_mean=300, cv=1.2).values(GRID)
    assert values.mean() == pytest.approx(300, rel=2e-3)
    assert values.std() / values.mean() == pytest.approx(1.2, rel=2e-2)


def test_tokens_are_whole_and_at_least_one() -> None:
    assert rounded_tokens(np.array([0.01, 0.6, 2.6])).tolist() == [1, 1, 3]
