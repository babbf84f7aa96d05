"""Attainment and statistics of outcomes written by hand."""

from dataclasses import dataclass, replace
from math import inf, isnan

import numpy as np
import pytest

from planner.score import attained, attainment, score, statistics
from planner.simulate_types import Outcome


@dataclass(frozen=True)
class Slo:
    ttft_s: float = inf
    tpot_s: float = inf
    e2e_s: float = inf


NAN = np.nan
OUTCOME = Outcome(
    arrival_s=np.zeros(5),
    ttft_s=np.array([0.1, 0.5, 0.1, NAN, 0.2]),
    e2e_s=np.array([1.1, 1.5, 4.1, NAN, 0.2]),
    tpot_s=np.array([0.01, 0.01, 0.04, NAN, NAN]),
    served=np.array([True, True, True, False, True]),
    replica=np.array([0, 0, 0, -1, 0]),
    request_preemptions=np.zeros(5, dtype=np.int64),
    component_s=np.zeros(5),
    busy_s=0.0,
    steps=0,
    kv_peak_fraction=0.0,
)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Slo(), [1, 1, 1, 0, 1]),
        (Slo(ttft_s=0.2), [1, 0, 1, 0, 1]),
        (Slo(tpot_s=0.02), [1, 1, 0, 0, 1]),
        (Slo(e2e_s=1.2), [1, 0, 0, 0, 1]),
        (Slo(ttft_s=0.1 - 1e-12, tpot_s=0.02), [1, 0, 0, 0, 0]),
    ],
)
def test_a_request_attains_when_it_meets_all_limits(limits: Slo, expected: list[int]) -> None:
    assert list(attained(OUTCOME, limits)) == [bool(e) for e in expected]
    assert attainment(OUTCOME, limits) == pytest.approx(sum(expected) / 5)


def test_a_ttft_limit_on_a_latency_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="e2e_ms"):
        attained(replace(OUTCOME, ttft_s=np.full(5, NAN)), Slo(ttft_s=1.0))


def test_statistics_leave_out_what_was_not_served() -> None:
    found = score(OUTCOME, Slo())
    assert found.attainment == pytest.approx(0.8)
    assert found.ttft_s.mean == pytest.approx(0.225)
    assert found.e2e_s.p50 == pytest.approx(1.3)
    assert statistics(np.arange(101.0)).p99 == pytest.approx(99.0)
    assert isnan(statistics(np.full(3, NAN)).mean)
