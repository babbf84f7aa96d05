"""Stages are timed, limits fire, and Ctrl-C keeps the best plan so far."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from planner.plan_check import check_plan
from planner.plan_io import read_plan
from planner.progress import Deadline, Progress, interruptible, line_writer
from planner.render_plan import SAID
from tests.small_spec import written

ROOT = Path(__file__).parents[2]
STOPPING = "stopping: keeping the best plan so far"


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_seconds_of_stages_of_one_name_add_up() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    for seconds in (2.0, 3.0):
        with progress.stage("solve"):
            clock.now_s += seconds
    with progress.stage("place"):
        clock.now_s += 0.5
    assert progress.wall_s == {"solve": 5.0, "place": 0.5}


def test_a_stage_that_raises_is_timed_and_its_error_goes_on() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    with pytest.raises(ZeroDivisionError), progress.stage("solve"):
        clock.now_s += 2.0
        raise ZeroDivisionError
    assert progress.wall_s == {"solve": 2.0}


def test_a_deadline_fires_once_it_has_passed_and_stays_fired() -> None:
    clock = Clock()
    deadline = Deadline(limit_s=10.0, clock=clock)
    clock.now_s += 10.0
    assert not deadline() and not deadline.fired
    clock.now_s += 0.1
    assert not deadline.fired, "nobody asked: it cut nothing short"
    assert deadline() and deadline.fired
    clock.now_s = 0.0
    assert deadline()


def test_the_first_interrupt_only_sets_the_flag_and_the_second_ends() -> None:
    stream = StringIO()
    with pytest.raises(KeyboardInterrupt), interruptible(stream) as interrupt:
        assert not interrupt()
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        assert stream.getvalue().startswith(STOPPING) and stream.getvalue().count("\n") == 1
        signal.raise_signal(signal.SIGINT)


def test_the_handler_of_before_is_back_afterwards_even_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible(StringIO()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError), interruptible(StringIO()):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_lines_are_flushed_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("w") as stream:
        say = line_writer(stream)
        say("round 1")
        assert path.read_text() == "round 1\n"
        say("round 2")
        assert path.read_text() == "round 1\nround 2\n"


def planning(spec: Path, *words: str) -> "subprocess.Popen[str]":
    """`muxplan plan` of the spec, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "planner.cli", "plan", str(spec), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: "subprocess.Popen[str]", wanted: Callable[[str], Any]) -> list[str]:
    """The lines on stderr up to the first that is wanted."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if wanted(line):
            return lines
    raise AssertionError(f"never said: {lines}")
