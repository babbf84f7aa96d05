"""Progress of long work, told to whoever listens; and a stop that Ctrl-C asks for."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO


class AbandonedError(Exception):
    """Nobody waits for the work any more: it ends without a result."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSoFar:
    """What serves a workload, and how much of the capacity known so far its traffic takes."""

    workload: str
    served_by: str
    load_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSoFar:
    """A mix that was found and placed, before it is simulated: its cost, the GPUs of each pool, and who serves what."""

    usd_per_hour: float
    gpus: Mapping[str, int]
    served: tuple[ServedSoFar, ...]


@dataclass(slots=True, kw_only=True)
class Progress:
    """Stages with their wall time. `say` gets one line whenever something worth telling happens.

    `mix`: the newest mix, None before the first. `done_fraction`: how much of the work is done, None where it cannot be
    told. `abandoned` is asked between steps: True drops the work.
    """

    say: Callable[[str], None] = field(default=lambda _line: None)
    clock: Callable[[], float] = time.perf_counter
    wall_s: dict[str, float] = field(default_factory=dict)
    mix: MixSoFar | None = None
    done_fraction: float | None = None
    abandoned: Callable[[], bool] = _never

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; the seconds of stages of one name add up in `wall_s`. AbandonedError when nobody waits."""
        self.go_on()
        start = self.clock()
        try:
            yield
        finally:
            self.wall_s[name] = self.wall_s.get(name, 0.0) + self.clock() - start

    def go_on(self) -> None:
        """Asked between long steps. AbandonedError when nobody waits for the work."""
        if self.abandoned():
            raise AbandonedError


@dataclass(slots=True)
class Interrupt:
    """Set by the first Ctrl-C; the second one ends the program at once."""

    asked: bool = False

    def __call__(self) -> bool:
        return self.asked


@dataclass(slots=True, kw_only=True)
class Deadline:
    """A wall limit over a whole task. `fired` tells afterwards whether it cut anything short."""

    limit_s: float
    clock: Callable[[], float] = time.perf_counter
    fired: bool = False
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.clock()

    def __call__(self) -> bool:
        """Whether the limit has passed; once asked and passed, it has fired."""
        if self.clock() - self.started_s > self.limit_s:
            self.fired = True
        return self.fired


@contextmanager
def interruptible(
    told: str = "stopping: keeping the best plan so far (Ctrl-C again ends at once)", stream: TextIO = sys.stderr
) -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C only sets the yielded flag, so that the best plan so far is kept."""
    interrupt = Interrupt()

    def ask(_signum: int, _frame: object) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True
        stream.write(told + "\n")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


def line_writer(stream: TextIO) -> Callable[[str], None]:
    """A `say` that writes lines to a stream at once."""

    def say(line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    return say
