"""Which point of which kernel to measure next: where reading between the points measured so far is worst.

A line is one curve (of decode attention: one batch of it) over its size. It starts with a few sizes spread evenly by
their logarithm; then intervals are halved, the one that is expected to be read worst first. How far off the middle of
an interval was, read from the points before, tells what to expect of its halves. No interval is halved for an error
that chance explains: how widely the runs of a point spread says how far off their median may be. Times do not fall
along a line, which bounds what can be between two points; falls within the noise of points are evened out.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from profiles.evidence import Evidence
from profiles.gpus import Gpu
from profiles.kernel_grid import Grid
from profiles.kernel_kinds import KINDS, Key
from profiles.kernel_table import KindTable

START_POINTS = 4
LEAST_RATIO = 1.25
"""Intervals whose ends are closer than this are not halved."""
UNSEEN = 0.25
"""Share of what the ends leave open that is expected of an interval whose middle nobody looked at."""
HALVED = 0.5
"""Share of an interval's error that is expected of its halves: a quarter where the curve is smooth, all at a jump."""
MEDIAN_NOISE = 2.0 * 1.2533 / 2.5631
"""Two standard errors of the median of n normal values, times √n, ÷ the distance of their 10th and 90th percentile."""

Cell = str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve to be measured from `low` to `high`; `fixed` holds its other columns: key, and batch if there is one."""

    kernel: str
    fixed: Mapping[str, Cell]
    low: int
    high: int

    @property
    def key(self) -> Key:
        """The key of its curve in a kernel table."""
        return tuple(self.fixed[name] for name in KINDS[self.kernel].keys)

    def columns(self, size: int) -> dict[str, Cell]:
        """The columns of one of its points."""
        return {**self.fixed, KINDS[self.kernel].size: size}

    def start_sizes(self) -> list[int]:
        """The sizes that are measured first."""
        return sorted({round(float(s)) for s in np.geomspace(self.low, self.high, START_POINTS)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds of a point (the median), how widely its runs spread (the 10th to the 90th percentile ÷ the median), and
    how many there were.
    """

    seconds: float
    spread_fraction: float
    runs: int

    @property
    def noise_fraction(self) -> float:
        """How far off the median may be by chance (two standard errors)."""
        return MEDIAN_NOISE * self.spread_fraction / math.sqrt(self.runs)


@dataclass(slots=True, kw_only=True)
class _Progress:
    """What is known of one line. `expected[size]`: error expected from that size to the next measured one."""

    points: dict[int, Measured] = field(default_factory=dict)
    expected: dict[int, float] = field(default_factory=dict)
    high: float = math.inf


@dataclass(slots=True, kw_only=True)
class AdaptiveGrid:
    """The points of several lines, measured one by one: ask `next`, measure, tell `add` or `give_up`."""

    lines: Sequence[Line]
    gpu: Gpu
    target_fraction: float
    errors: list[float] = field(default_factory=list)
    """How far off each middle was, read from the points before."""
    _state: list[_Progress] = field(init=False)

    def __post_init__(self) -> None:
        self._state = [_Progress() for _ in self.lines]

    def next(self) -> tuple[int, int] | None:
        """(index of the line, size) to measure; None when every interval is expected to be within the target, or within
        the noise of its points.
        """
        best: tuple[float, int, int] | None = None
        for number, line in enumerate(self.lines):
            wanted = self._wanted(number, line)
            if wanted is not None and (best is None or wanted[0] > best[0]):
                best = (wanted[0], number, wanted[1])
        return (best[1], best[2]) if best is not None else None

    def add(self, number: int, size: int, measured: Measured) -> None:
        """Take up a point that was measured."""
        state, starting = self._state[number], self.lines[number].start_sizes()
        read = self._read(number, size) if size not in starting else None
        state.points[size] = measured
        if read is not None:
            off = abs(read / measured.seconds - 1.0)
            self.errors.append(off)
            below = max(s for s in state.points if s < size)
            state.expected[below] = state.expected[size] = HALVED * off
        elif self._started(number):
            self._expect_of_start(number)

    def give_up(self, number: int, size: int) -> None:
        """A point cannot be measured: neither can larger ones of its line."""
        state = self._state[number]
        if size in self.lines[number].start_sizes():
            state.high = min(state.high, size)
            if self._started(number):
                self._expect_of_start(number)
        else:
            state.expected[max(s for s in state.points if s < size)] = 0.0

    @property
    def worst_expected(self) -> float:
        """The largest error expected between the points there are; infinite while lines are still to be started."""
        every = [e for n in range(len(self.lines)) for e in self._expected(n)]
        return max(every, default=math.inf if any(self._unstarted(n) for n in range(len(self.lines))) else 0.0)

    @property
    def remaining(self) -> int:
        """Points that are certainly still to be measured."""
        starting = sum(len(self._unstarted(n)) for n in range(len(self.lines)))
        return starting + sum(len(self._to_halve(n)) for n in range(len(self.lines)) if self._started(n))

    @property
    def limited(self) -> dict[str, float]:
        """Kernels whose points are mostly noisier than the target, and by how much they may be off (median)."""
        noise: dict[str, list[float]] = {}
        for line, state in zip(self.lines, self._state, strict=True):
            noise.setdefault(line.kernel, []).extend(p.noise_fraction for p in state.points.values())
        typical = {kernel: float(np.median(found)) for kernel, found in noise.items() if found}
        return {kernel: off for kernel, off in typical.items() if off > self.target_fraction}

    def _wanted(self, number: int, line: Line) -> tuple[float, int] | None:
        """(expected error, size) of the point of a line to be measured next."""
        missing = self._unstarted(number)
        if missing:
            # The coarse view of every line comes before any detail; of that, what was measured least first.
            return math.inf if not self._state[number].points else 1e9 / len(self._state[number].points), missing[-1]
        expected = self._state[number].expected
        worst = max(self._to_halve(number), key=lambda one: expected[one[0]], default=None)
        return None if worst is None else (expected[worst[0]], _middle(*worst))

    def _to_halve(self, number: int) -> list[tuple[int, int]]:
        """The intervals that are expected to be off by more than the target and the noise of their ends, where the ends
        leave so much open.
        """
        state = self._state[number]

        def floor(ends: tuple[int, int]) -> float:
            return max(self.target_fraction, *(state.points[size].noise_fraction for size in ends))

        return [
            ends
            for ends in self._intervals(number)
            if min(state.expected[ends[0]], self._open(number, *ends)) > floor(ends)
        ]

    def _open(self, number: int, low: int, high: int) -> float:
        """How far off a time between two points can be, since times do not fall; at most 1."""
        points = self._state[number].points
        return min(max(points[high].seconds / points[low].seconds - 1.0, 0.0), 1.0)

    def _intervals(self, number: int) -> list[tuple[int, int]]:
        """The intervals that can be halved."""
        sizes = sorted(self._state[number].points)
        pairs = itertools.pairwise(sizes)
        return [(a, b) for a, b in pairs if b / a >= LEAST_RATIO and a < _middle(a, b) < b]

    def _expected(self, number: int) -> list[float]:
        if self._unstarted(number):
            return []
        expected = self._state[number].expected
        return [min(expected[a], self._open(number, a, b)) for a, b in self._intervals(number)]

    def _unstarted(self, number: int) -> list[int]:
        state = self._state[number]
        return [s for s in self.lines[number].start_sizes() if s not in state.points and s < state.high]

    def _started(self, number: int) -> bool:
        return not self._unstarted(number)

    def _expect_of_start(self, number: int) -> None:
        """Expect of each first interval the error of its ends read from their neighbours, or a share of what they leave
        open; nothing is known of two.
        """
        sizes = sorted(self._state[number].points)
        off = {s: self._left_out(number, s) for s in sizes[1:-1]}
        for a, b in itertools.pairwise(sizes):
            of_ends = max((off[s] for s in (a, b) if s in off), default=1.0)
            self._state[number].expected[a] = max(of_ends, UNSEEN * self._open(number, a, b))

    def _left_out(self, number: int, size: int) -> float:
        state = self._state[number]
        own = state.points.pop(size)
        read = self._read(number, size)
        state.points[size] = own
        return abs(read / own.seconds - 1.0)

    def _read(self, number: int, size: int) -> float:
        """What a kernel table of the line's points alone gives at a size."""
        return read_line(self.lines[number], self.seconds(number), self.gpu, size)

    def seconds(self, number: int) -> dict[int, float]:
        """The times of a line's points for a table, falls within their noise evened out."""
        return evened_out(self._state[number].points)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Neighbours that share one time."""

    sizes: tuple[int, ...]
    log_seconds: float
    noise: float

    def joined(self, other: "_Block") -> "_Block":
        here, there = len(self.sizes), len(other.sizes)
        mean = (here * self.log_seconds + there * other.log_seconds) / (here + there)
        return _Block(sizes=self.sizes + other.sizes, log_seconds=mean, noise=max(self.noise, other.noise))


def evened_out(points: Mapping[int, Measured]) -> dict[int, float]:
    """Seconds by size: neighbours that fall by no more than their noise get their (geometric) mean.

    A table holds times that do not fall; without this, chance would leave it the low points of a flat stretch only.
    """
    blocks: list[_Block] = []
    for size, point in sorted(points.items()):
        blocks.append(_Block(sizes=(size,), log_seconds=math.log(point.seconds), noise=point.noise_fraction))
        while len(blocks) > 1:
            before, last = blocks[-2:]
            fall = before.log_seconds - last.log_seconds
            if not 0 < fall <= before.noise + last.noise:
                break
            blocks[-2:] = [before.joined(last)]
    return {size: math.exp(block.log_seconds) for block in blocks for size in block.sizes}


def read_line(line: Line, seconds: Mapping[int, float], gpu: Gpu, size: int) -> float:
    """Seconds at a size, read from a kernel table that holds these points of a line and nothing else."""
    kind, sizes = KINDS[line.kernel], sorted(seconds)
    batch = float(line.fixed[kind.batch]) if kind.batch is not None else 1.0
    grid = Grid(
        kind=kind,
        keys=(line.key,),
        batches=np.array([batch]),
        sizes=np.array(sizes, dtype=np.float64),
        seconds=np.array([[[seconds[s] for s in sizes]]]),
    )
    table = KindTable(grid=grid, gpu=gpu)
    if kind.batch is not None:
        return float(table.surface(line.key, [(0, 1.0)], Evidence.MEASURED).read(batch, float(size)))
    exponent = 0.5 if kind.name == "prefill_attention" else 1.0
    return float(table.curve(line.key, [(0, 1.0)], Evidence.MEASURED, exponent).read(float(size)))


def _middle(low: int, high: int) -> int:
    return round(math.sqrt(low * high))
