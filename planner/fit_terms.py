"""Engine terms from measured runs: the most probable ones between what is known before and what was measured.

Each run gives two residuals, the logarithms of predicted over measured mean TTFT and TPOT. They are taken to follow
Student's t distribution, whose influence falls off for outliers, so that one bad run among several does no harm; the
terms lie around those known before with a normal spread (maximum a posteriori, found by Gauss-Newton steps on
reweighted residuals with halving).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.measured_runs import PreparedRun
from planner.simulate_types import FloatArray
from profiles.engines import TermValues

NOISE = np.array([0.10, 0.04])
"""What measured runs of the same configuration differ by, TTFT and TPOT; a residual of 2 of these counts half."""
HALF_WEIGHT = 2.0
PROBE = np.array([2e-4, 0.05, 1e-4])
"""Steps of the numeric derivatives, of the size over which the simulation is smooth."""
LEAST = np.array([0.0, 0.3, 0.0])
LEAST_WIDTH = 1e-9
HIGH = np.array([0.0, 0.0, 2.0])
"""Where the second search starts, in units of the spread."""
ROUNDS = 8
HALVINGS = 4
ENOUGH = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """What is to be made small: `residuals` of some values, in units of the noise; the steps of its derivatives; the
    least that the values can be.
    """

    residuals: Callable[[FloatArray], FloatArray]
    probe: FloatArray
    least: FloatArray


def fit_terms(runs: Sequence[PreparedRun], prior: TermValues, spread: TermValues) -> TermValues:
    """The terms that explain the runs best, given that they lie around `prior` by `spread`."""

    def residuals(at: FloatArray) -> FloatArray:
        terms = as_terms(at)
        return np.concatenate([(run.predicted(terms) - run.measured) / NOISE for run in runs])

    misfit = Misfit(residuals=residuals, probe=PROBE, least=LEAST)
    center, width = as_array(prior), as_array(spread)
    # A floor below what every step with a prompt takes anyway shows no slope: look from above it as well.
    found = [most_probable(misfit, center, width, start) for start in (center, center + HIGH * width)]
    return as_terms(min(found, key=lambda one: one[1])[0])


def most_probable(
    misfit: Misfit, center: FloatArray, spread: FloatArray, start: FloatArray
) -> tuple[FloatArray, float]:
    """(the values near `start` that make the misfit and their distance from `center`, in units of `spread`, small; how
    small both are).
    """
    width = np.maximum(spread, LEAST_WIDTH)
    at, residuals = start, misfit.residuals(start)
    cost = _cost(residuals, (at - center) / width)
    for _ in range(ROUNDS):
        step = _step(misfit, (at, residuals), center, width)
        for halving in range(HALVINGS):
            trial = np.maximum(at + step * 0.5**halving, misfit.least)
            found = misfit.residuals(trial)
            less = _cost(found, (trial - center) / width)
            if less < cost:
                break
        else:
            break
        moved = float(np.max(np.abs(trial - at) / width))
        at, residuals, cost = trial, found, less
        if moved < ENOUGH:
            break
    return at, cost


def as_array(terms: TermValues) -> FloatArray:
    """The terms as an array of three."""
    return np.array([terms.overhead_s, terms.prefill_factor, terms.prefill_floor_s_per_layer])


def as_terms(values: FloatArray) -> TermValues:
    """The terms of an array of three, at the digits that a data file keeps."""
    overhead, factor, floor = (float(v) for v in values)
    return TermValues(
        overhead_s=round(overhead, 6), prefill_factor=round(factor, 4), prefill_floor_s_per_layer=round(floor, 7)
    )


def _cost(residuals: FloatArray, distance: FloatArray) -> float:
    misfit = HALF_WEIGHT**2 * np.log1p((residuals / HALF_WEIGHT) ** 2).sum()
    return float(misfit + (distance**2).sum())


def _step(misfit: Misfit, here: tuple[FloatArray, FloatArray], center: FloatArray, width: FloatArray) -> FloatArray:
    at, residuals = here
    slopes = [(misfit.residuals(at + probe) - residuals) / probe.sum() for probe in np.diag(misfit.probe)]
    slope = np.stack(slopes, axis=1)
    weights = 1.0 / (1.0 + (residuals / HALF_WEIGHT) ** 2)
    normal = slope.T @ (weights[:, None] * slope) + np.diag(width**-2.0)
    gradient = slope.T @ (weights * residuals) + (at - center) / width**2
    return np.asarray(-np.linalg.solve(normal, gradient))
