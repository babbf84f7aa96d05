"""The traffic of a workload: arrivals and lengths, drawn from a process or bootstrapped from a recorded trace."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner.trace_file import Trace
from profiles.lengths import LengthDistribution, trace_lengths

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BLOCK_S = 60.0
"""Blocks of a bootstrapped trace: long enough to keep its bursts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Requests in order of arrival; arrays of shape (requests,). Time starts at 0."""

    arrival_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray


class Traffic(Protocol):
    """A stream of requests whose independent draws can be asked for."""

    @property
    def mean_rate_rps(self) -> float:
        """Requests per second that a plan must hold (the peak hour's, where hours differ)."""
        ...

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of the gaps between arrivals."""
        ...

    @property
    def lengths(self) -> LengthDistribution:
        """Joint distribution of input and output tokens."""
        ...

    @property
    def mean_tokens(self) -> float:
        """Mean input and output tokens of a request together."""
        ...

    def draw(self, duration_s: float, rng: np.random.Generator) -> Draw:
        """Requests of `duration_s` seconds, independent of every other draw."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTraffic:
    """A gamma renewal process (cv 1 is Poisson, cv 0 is a clock) with lengths drawn independently of it."""

    rate_rps: float
    cv: float
    lengths: LengthDistribution

    @property
    def mean_rate_rps(self) -> float:
        """Requests per second."""
        return self.rate_rps

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of the gaps between arrivals."""
        return self.cv

    @property
    def mean_tokens(self) -> float:
        """Mean input and output tokens of a request together."""
        return self.lengths.mean_input + self.lengths.mean_output

    def draw(self, duration_s: float, rng: np.random.Generator) -> Draw:
        """Arrivals within `duration_s` and their lengths; the process starts at a random point of a gap."""
        arrival = self._arrivals(duration_s, rng)
        inputs, outputs = self.lengths.sample(arrival.size, rng)
        return Draw(arrival_s=arrival, input_tokens=inputs, output_tokens=outputs)

    def _arrivals(self, duration_s: float, rng: np.random.Generator) -> FloatArray:
        mean_gap = 1.0 / self.rate_rps
        if self.cv == 0.0:
            return np.arange(rng.random() * mean_gap, duration_s, mean_gap)
        shape = 1.0 / self.cv**2
        # A point seen at random lies in a long gap more often: its gap is gamma with one more unit of shape.
        first = rng.gamma(shape + 1.0, mean_gap / shape) * rng.random()
        gaps = [np.array([first])]
        reached = first
        while reached < duration_s:
            more = rng.gamma(shape, mean_gap / shape, size=max(64, int((duration_s - reached) / mean_gap * 1.1)))
            gaps.append(more)
            reached += float(more.sum())
        arrival = np.cumsum(np.concatenate(gaps))
        return arrival[arrival < duration_s]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTraffic:
    """A recorded trace, redrawn by a circular moving-block bootstrap: minutes keep their bursts and joint lengths."""

    trace: Trace
    lengths: LengthDistribution

    @property
    def mean_rate_rps(self) -> float:
        """Requests per second over the trace."""
        return self.trace.arrival_s.size / self.trace.span_s

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of the gaps between the recorded arrivals."""
        gaps = np.diff(self.trace.arrival_s)
        mean = float(gaps.mean()) if gaps.size else 0.0
        return float(gaps.std() / mean) if mean > 0 else 1.0

    @property
    def mean_tokens(self) -> float:
        """Mean input and output tokens of a request together."""
        return self.lengths.mean_input + self.lengths.mean_output

    def draw(self, duration_s: float, rng: np.random.Generator) -> Draw:
        """Blocks of the trace, each from a random instant, laid end to end (the trace is closed to a circle)."""
        span = self.trace.span_s
        block = min(BLOCK_S, span)
        arrivals, rows = [], []
        for start in np.arange(0.0, duration_s, block):
            begin = rng.random() * span
            since = (self.trace.arrival_s - begin) % span
            inside = np.flatnonzero(since < min(block, duration_s - start))
            inside = inside[np.argsort(since[inside], kind="stable")]
            arrivals.append(start + since[inside])
            rows.append(inside)
        chosen = np.concatenate(rows)
        return Draw(
            arrival_s=np.concatenate(arrivals),
            input_tokens=self.trace.input_tokens[chosen],
            output_tokens=self.trace.output_tokens[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTraffic:
    """A recorded trace replayed as it is: every draw is the same."""

    trace: Trace

    @property
    def lengths(self) -> LengthDistribution:
        """The lengths of the trace's requests."""
        return trace_lengths(self.trace.input_tokens, self.trace.output_tokens)

    @property
    def mean_rate_rps(self) -> float:
        """Requests per second over the trace."""
        return self.trace.arrival_s.size / self.trace.span_s

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of the gaps between the recorded arrivals."""
        return TraceTraffic(trace=self.trace, lengths=self.lengths).arrival_cv

    @property
    def mean_tokens(self) -> float:
        """Mean input and output tokens of a request together."""
        return float(np.mean(self.trace.input_tokens + self.trace.output_tokens))

    def draw(self, duration_s: float, rng: np.random.Generator) -> Draw:
        """The requests of the first `duration_s` seconds of the trace."""
        inside = self.trace.arrival_s < duration_s
        return Draw(
            arrival_s=self.trace.arrival_s[inside],
            input_tokens=self.trace.input_tokens[inside],
            output_tokens=self.trace.output_tokens[inside],
        )


def trace_traffic(trace: Trace, lengths: LengthDistribution | None) -> Traffic:
    """Traffic like a trace; with `lengths` only its arrivals are the trace's."""
    own = trace_lengths(trace.input_tokens, trace.output_tokens)
    traffic = TraceTraffic(trace=trace, lengths=own)
    return traffic if lengths is None else RelengthedTraffic(arrivals=traffic, lengths=lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelengthedTraffic:
    """The arrivals of a trace with lengths of another distribution."""

    arrivals: TraceTraffic
    lengths: LengthDistribution

    @property
    def mean_rate_rps(self) -> float:
        """Requests per second over the trace."""
        return self.arrivals.mean_rate_rps

    @property
    def arrival_cv(self) -> float:
        """Coefficient of variation of the gaps between the recorded arrivals."""
        return self.arrivals.arrival_cv

    @property
    def mean_tokens(self) -> float:
        """Mean input and output tokens of a request together."""
        return self.lengths.mean_input + self.lengths.mean_output

    def draw(self, duration_s: float, rng: np.random.Generator) -> Draw:
        """Bootstrapped arrivals with drawn lengths."""
        arrival = self.arrivals.draw(duration_s, rng).arrival_s
        inputs, outputs = self.lengths.sample(arrival.size, rng)
        return Draw(arrival_s=arrival, input_tokens=inputs, output_tokens=outputs)
