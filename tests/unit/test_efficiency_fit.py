"""Fitting calibrations."""

import numpy as np
import pytest

from profiles.efficiency import Fit, load_efficiency
from profiles.efficiency_fit import Bounds, fit_law, read_points, refit
from profiles.errors import ProfileError

CALIBRATIONS = ["h100-sxm", "h200-sxm", "a100-sxm", "l40s", "b200-sxm"]
TYPICAL_ERROR = 0.20


def test_the_fit_finds_the_parameters_that_made_the_points() -> None:
    work = np.geomspace(1.0, 1e4, 40)
    bounds = Bounds(start=(1.0, 1.0), low=(1e-3, 1e-3), high=(1e3, 1e3))
    fitted = fit_law(lambda p: p[0] + p[1] * work, 7.0 + 0.3 * work, bounds)
    assert fitted.parameters == pytest.approx((7.0, 0.3), rel=1e-4)
    assert fitted.p90_error_fraction < 1e-4


def test_the_fit_stays_within_its_bounds_and_states_its_error() -> None:
    work = np.geomspace(1.0, 1e4, 40)
    bounds = Bounds(start=(1.0, 1.0), low=(1e-3, 0.5), high=(5.0, 1.0))
    fitted = fit_law(lambda p: p[0] + p[1] * work, 7.0 + 0.3 * work, bounds)
    assert fitted.parameters[0] <= 5.0 * (1 + 1e-9) and fitted.parameters[1] >= 0.5 * (1 - 1e-9)
    assert fitted.median_error_fraction > 0.05


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_the_stored_parameters_are_the_fit_of_the_stored_points(name: str) -> None:
    stored = load_efficiency(name)
    again = refit(stored)
    pairs: list[tuple[Fit, Fit]] = [(stored.prefill_attention, again.prefill_attention)]
    pairs += [(fit, again.gemm[operand]) for operand, fit in stored.gemm.items()]
    pairs += [(fit, again.moe[operand]) for operand, fit in stored.moe.items()]
    pairs += [(fit, again.decode_attention[kv]) for kv, fit in stored.decode_attention.items()]
    for was, fitted in pairs:
        assert was.model_dump() == pytest.approx(fitted.model_dump(), rel=2e-2, abs=0.0)
        assert was.median_error_fraction < TYPICAL_ERROR


def test_points_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ProfileError, match="no measured points of gemm at fp8"):
        read_points("a100-sxm", "gemm", "fp8")
