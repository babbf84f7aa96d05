"""Engine terms from measured runs: the most probable ones between what is known before and what was measured.

Each run gives two residuals, the logarithms of predicted over measured mean TTFT and TPOT. They are taken to follow
Student's t distribution, whose influence falls off for outliers, so that one bad run among several does no harm; the
terms lie around those known before with a normal spread (maximum a posteriori, found by Gauss-Newton steps on
reweighted residuals with halving).
"""

from collections.abc import Sequence

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
ROUNDS = 8
HALVINGS = 4
ENOUGH = 0.01


def fit_terms(runs: Sequence[PreparedRun], prior: TermValues, spread: TermValues) -> TermValues:
    """The terms that explain the runs best, given that they lie around `prior` by `spread`."""
    center, width = as_array(prior), np.maximum(as_array(spread), 1e-9)
    at, residuals = center, _residuals(runs, center)
    for _ in range(ROUNDS):
        step = _step(runs, (at, residuals), center, width)
        cost = _cost(residuals, (at - center) / width)
        for halving in range(HALVINGS):
            trial = np.maximum(at + step * 0.5**halving, LEAST)
            found = _residuals(runs, trial)
            if _cost(found, (trial - center) / width) < cost:
                break
        else:
            break
        moved = float(np.max(np.abs(trial - at) / width))
        at, residuals = trial, found
        if moved < ENOUGH:
            break
    return as_terms(at)


def as_array(terms: TermValues) -> FloatArray:
    """The terms as an array of three."""
    return np.array([terms.overhead_s, terms.prefill_factor, terms.prefill_floor_s_per_layer])


def as_terms(values: FloatArray) -> TermValues:
    """The terms of an array of three, at the digits that a data file keeps."""
    overhead, factor, floor = (float(v) for v in values)
    return TermValues(
        overhead_s=round(overhead, 6), prefill_factor=round(factor, 4), prefill_floor_s_per_layer=round(floor, 7)
    )


def _residuals(runs: Sequence[PreparedRun], at: FloatArray) -> FloatArray:
    """(predicted − measured) / noise, shape (2 · runs,)."""
    terms = as_terms(at)
    return np.concatenate([(run.predicted(terms) - run.measured) / NOISE for run in runs])


def _cost(residuals: FloatArray, distance: FloatArray) -> float:
    misfit = HALF_WEIGHT**2 * np.log1p((residuals / HALF_WEIGHT) ** 2).sum()
    return float(misfit + (distance**2).sum())


def _step(
    runs: Sequence[PreparedRun], here: tuple[FloatArray, FloatArray], center: FloatArray, width: FloatArray
) -> FloatArray:
    at, residuals = here
    slopes = [(_residuals(runs, at + probe) - residuals) / probe.sum() for probe in np.diag(PROBE)]
    slope = np.stack(slopes, axis=1)
    weights = 1.0 / (1.0 + (residuals / HALF_WEIGHT) ** 2)
    normal = slope.T @ (weights[:, None] * slope) + np.diag(width**-2.0)
    gradient = slope.T @ (weights * residuals) + (at - center) / width**2
    return np.asarray(-np.linalg.solve(normal, gradient))
