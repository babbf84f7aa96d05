"""Traffic: rates and burstiness of processes, what a bootstrap of a trace keeps, and that draws repeat by seed."""

import numpy as np
import pytest

from planner.trace_file import Trace
from planner.traffic import Draw, ProcessTraffic, RecordedTraffic, TraceTraffic, Traffic, trace_traffic
from profiles.lengths import moment_lengths

LENGTHS = moment_lengths(input_mean=300, input_cv=0.8, output_mean=60, output_cv=0.5)


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def recorded(requests: int = 4000) -> Trace:
    """Bursty arrivals over about half an hour whose output is always twice the input: joint lengths can be told."""
    drawn = rng(11)
    gaps = drawn.gamma(0.25, 2.0, size=requests)
    arrival = np.cumsum(gaps) - gaps[0]
    inputs = drawn.integers(1, 500, size=requests)
    span = float(arrival[-1]) * requests / (requests - 1)
    return Trace(arrival_s=arrival, input_tokens=inputs, output_tokens=2 * inputs, span_s=span, has_tokens=True)


def every() -> dict[str, Traffic]:
    trace = recorded()
    return {
        "poisson": ProcessTraffic(rate_rps=5.0, cv=1.0, lengths=LENGTHS),
        "bursty": ProcessTraffic(rate_rps=5.0, cv=2.5, lengths=LENGTHS),
        "clock": ProcessTraffic(rate_rps=5.0, cv=0.0, lengths=LENGTHS),
        "trace": trace_traffic(trace, None),
        "trace with other lengths": trace_traffic(trace, LENGTHS),
        "replay": RecordedTraffic(trace=trace),
    }


@pytest.mark.parametrize("name", sorted(every()))
def test_draws_are_ordered_within_their_time_and_repeat_by_seed(name: str) -> None:
    traffic = every()[name]
    first, again = traffic.draw(500.0, rng()), traffic.draw(500.0, rng())
    for field in ("arrival_s", "input_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
        assert getattr(first, field).shape == first.arrival_s.shape
    assert first.arrival_s.size > 100
    assert np.all(np.diff(first.arrival_s) >= 0)
    assert first.arrival_s[0] >= 0 and first.arrival_s[-1] < 500.0
    assert first.input_tokens.min() >= 1 and first.output_tokens.min() >= 1


@pytest.mark.parametrize("name", sorted(set(every()) - {"replay"}))
def test_another_seed_is_another_draw(name: str) -> None:
    traffic = every()[name]
    first, other = traffic.draw(500.0, rng(1)), traffic.draw(500.0, rng(2))
    assert first.arrival_s.tolist() != other.arrival_s.tolist()


@pytest.mark.parametrize("cv", [0.0, 0.3, 1.0, 2.0, 4.0])
def test_a_process_has_its_rate_and_its_burstiness(cv: float) -> None:
    traffic = ProcessTraffic(rate_rps=20.0, cv=cv, lengths=LENGTHS)
    arrival = traffic.draw(20_000.0, rng()).arrival_s
    gaps = np.diff(arrival)
    # A mean over n gaps errs by cv / sqrt(n): 4 of them, and the spread of the gaps itself by a little more.
    sigma = max(cv, 1e-9) / np.sqrt(arrival.size)
    assert arrival.size / 20_000.0 == pytest.approx(20.0, rel=4 * sigma + 1e-4)
    assert float(gaps.std() / gaps.mean()) == pytest.approx(cv, rel=0.05, abs=1e-9)


@pytest.mark.parametrize("cv", [0.0, 1.0, 3.0])
def test_a_process_begins_as_it_goes_on(cv: float) -> None:
    """The start is a random point of a gap: short draws hold rate × time requests, neither more nor fewer."""
    traffic = ProcessTraffic(rate_rps=2.0, cv=cv, lengths=LENGTHS)
    drawn = rng()
    counts = np.array([traffic.draw(3.0, drawn).arrival_s.size for _ in range(8000)])
    assert float(counts.mean()) == pytest.approx(6.0, abs=4 * float(counts.std()) / np.sqrt(counts.size) + 1e-3)


def test_no_request_may_come_in_a_short_time() -> None:
    empty = ProcessTraffic(rate_rps=0.001, cv=1.0, lengths=LENGTHS).draw(0.01, rng())
    assert empty.arrival_s.size == empty.input_tokens.size == empty.output_tokens.size == 0


def bootstrapped(trace: Trace, duration_s: float) -> Draw:
    return trace_traffic(trace, None).draw(duration_s, rng())


def test_a_bootstrap_keeps_rate_burstiness_and_joint_lengths() -> None:
    trace = recorded()
    draw = bootstrapped(trace, 20 * trace.span_s)
    rate = trace.arrival_s.size / trace.span_s
    assert draw.arrival_s.size / (20 * trace.span_s) == pytest.approx(rate, rel=0.05)
    np.testing.assert_array_equal(draw.output_tokens, 2 * draw.input_tokens)
    assert float(draw.input_tokens.mean()) == pytest.approx(float(trace.input_tokens.mean()), rel=0.03)
    gaps = np.diff(draw.arrival_s)
    traffic = TraceTraffic(trace=trace, lengths=LENGTHS)
    assert float(gaps.std() / gaps.mean()) == pytest.approx(traffic.arrival_cv, rel=0.1)


def test_a_bootstrap_uses_all_of_the_trace() -> None:
    trace = recorded(500)
    draw = bootstrapped(trace, 50 * trace.span_s)
    assert set(np.unique(trace.input_tokens)) == set(np.unique(draw.input_tokens))


def test_a_trace_shorter_than_a_block_is_repeated_from_anywhere() -> None:
    arrival = np.arange(10.0)
    tokens = np.arange(1, 11)
    trace = Trace(arrival_s=arrival, input_tokens=tokens, output_tokens=tokens, span_s=10.0, has_tokens=True)
    draw = bootstrapped(trace, 100.0)
    assert draw.arrival_s.size == pytest.approx(100, abs=10)
    assert set(draw.input_tokens.tolist()) == set(tokens.tolist())


def test_other_lengths_leave_the_arrivals_as_they_are() -> None:
    trace = recorded()
    own, other = (trace_traffic(trace, lengths).draw(900.0, rng()) for lengths in (None, LENGTHS))
    np.testing.assert_array_equal(own.arrival_s, other.arrival_s)
    assert float(other.output_tokens.mean()) == pytest.approx(60, rel=0.1)


def test_a_replay_is_the_trace_itself() -> None:
    trace = recorded()
    draw = RecordedTraffic(trace=trace).draw(trace.span_s + 1.0, rng())
    np.testing.assert_array_equal(draw.arrival_s, trace.arrival_s)
    np.testing.assert_array_equal(draw.input_tokens, trace.input_tokens)


@pytest.mark.parametrize("name", sorted(every()))
def test_the_stated_means_are_those_of_the_draws(name: str) -> None:
    traffic = every()[name]
    draw = traffic.draw(900.0 if name == "replay" else 20_000.0, rng())
    tokens = float((draw.input_tokens + draw.output_tokens).mean())
    assert tokens == pytest.approx(traffic.mean_tokens, rel=0.05)
    if name != "replay":
        assert draw.arrival_s.size / 20_000.0 == pytest.approx(traffic.mean_rate_rps, rel=0.05)
