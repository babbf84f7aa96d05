"""Windows of a check: which requests of one that was cut short count, and windows one after the other."""

import numpy as np

from planner.check.load import CheckLoad
from planner.check.windows import Window, joined, window_of
from planner.load.requests import Answers

NAN = np.nan


def load() -> CheckLoad:
    zeros = np.zeros(4, dtype=np.int64)
    return CheckLoad(
        due_s=np.array([0.5, 1.0, 4.0, 9.0]),
        input_tokens=zeros + 10,
        output_tokens=zeros + 5,
        group=np.array([0, 1, 0, 1]),
        workload=zeros,
    )


def window(*, cut: bool) -> Window:
    """The second request failed, the fourth never ended."""
    ttft_s = np.array([0.1, NAN, 0.3, NAN])
    answers = Answers(
        ttft_s=ttft_s,
        e2e_s=2.0 * ttft_s,
        tpot_s=0.1 * ttft_s,
        tokens=np.full(4, 5),
        lag_s=np.array([0.0, 0.0, 0.01, NAN]),
        done=np.array([True, True, True, False]),
        errors={"HTTP 500": 1},
    )
    return window_of(load(), answers, 10.0, cut=cut)


def test_all_requests_of_a_whole_window_count() -> None:
    whole = window(cut=False)
    assert whole.counts.all() and whole.span_s == 10.0


def test_of_a_window_cut_short_count_those_that_had_ended() -> None:
    cut = window(cut=True)
    assert cut.counts.tolist() == [True, True, True, False]
    assert cut.span_s == 4.0
    assert cut.load.due_s.size == 4


def test_windows_follow_each_other_without_touching() -> None:
    both = joined([window(cut=False), window(cut=True)], 70.0)
    assert both.load.due_s.tolist() == [0.5, 1.0, 4.0, 9.0, 70.5, 71.0, 74.0, 79.0]
    assert both.counts.tolist() == [*[True] * 4, *[True] * 3, False]
    assert both.span_s == 14.0 and both.errors == {"HTTP 500": 2}
    assert both.load.group.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(both.latencies.ttft_s, np.array([0.1, NAN, 0.3, NAN] * 2))
