"""Scores of a simulated cell: who met the limits, and the usual statistics of the latencies."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import Protocol

import numpy as np

from planner.simulate_types import DEADLINE_TOLERANCE_S, BoolArray, FloatArray, Outcome


class Limits(Protocol):
    """Limits of one request in seconds, inf where there is none."""

    @property
    def ttft_s(self) -> float:
        """From the arrival to the first token."""

    @property
    def tpot_s(self) -> float:
        """Mean time per output token after the first."""

    @property
    def e2e_s(self) -> float:
        """From the arrival to the last token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Mean and percentiles (linear between order statistics) of a latency in seconds; NaN when there is none."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Attainment over all requests offered; statistics over the served ones."""

    attainment: float
    ttft_s: Statistics
    tpot_s: Statistics
    e2e_s: Statistics


def attained(outcome: Outcome, limits: Limits) -> BoolArray:
    """Which requests were served within all limits together, shape (requests,).

    Rejected, dropped and unfinished ones miss; TPOT does not bind a request of one token. Raises ValueError where a
    TTFT limit is put on an outcome that has no TTFT (latency tables).
    """
    met = outcome.served.copy()
    if isfinite(limits.ttft_s):
        if np.any(np.isnan(outcome.ttft_s[met])):
            raise ValueError("a latency table gives no TTFT: state e2e_ms instead of ttft_ms")
        met &= _within(outcome.ttft_s, limits.ttft_s)
    if isfinite(limits.tpot_s):
        met &= np.isnan(outcome.tpot_s) | _within(outcome.tpot_s, limits.tpot_s)
    if isfinite(limits.e2e_s):
        met &= _within(outcome.e2e_s, limits.e2e_s)
    return met


def _within(values_s: FloatArray, limit_s: float) -> BoolArray:
    return values_s <= limit_s + DEADLINE_TOLERANCE_S


def attainment(outcome: Outcome, limits: Limits) -> float:
    """Fraction of all offered requests that attained; 1 when none was offered."""
    met = attained(outcome, limits)
    return float(met.mean()) if met.size else 1.0


def statistics(values_s: FloatArray) -> Statistics:
    """Statistics of the values that are not NaN."""
    values_s = values_s[~np.isnan(values_s)]
    if values_s.size == 0:
        return Statistics(mean=nan, p50=nan, p90=nan, p99=nan)
    p50, p90, p99 = np.percentile(values_s, (50, 90, 99))
    return Statistics(mean=float(values_s.mean()), p50=float(p50), p90=float(p90), p99=float(p99))


def score(outcome: Outcome, limits: Limits) -> Score:
    """The attainment of an outcome and its latency statistics."""
    return Score(
        attainment=attainment(outcome, limits),
        ttft_s=statistics(outcome.ttft_s),
        tpot_s=statistics(outcome.tpot_s),
        e2e_s=statistics(outcome.e2e_s),
    )
