"""Stages are timed, limits fire, and Ctrl-C keeps the best plan so far."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from planner.pipeline import plan_spec
from planner.plan_check import check_plan
from planner.plan_io import read_plan
from planner.progress import Deadline, Progress, interruptible, line_writer
from planner.render_plan import render_plan
from tests.spec_fixtures import OPTIONS, load, model, pool, spec, workload

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "chat_fleet.yaml"
STOPPING = "stopping: keeping the best plan so far (Ctrl-C again ends at once)"
BURSTY = {"burstiness_cv": 4.0}
SEVERAL_ROUNDS = spec(
    pools=[pool(buy="gpu"), pool("big", "l40s-48gb", buy="gpu")],
    models=[model(), model("large", "llama-3.1-8b")],
    workloads=[
        workload(traffic={"rate_rps": 60.0, **BURSTY}, slo={"ttft_ms": 150, "tpot_ms": 12, "attainment": 0.99}),
        workload(
            "code",
            model="large",
            traffic={"rate_rps": 12.0, **BURSTY},
            slo={"ttft_ms": 400, "tpot_ms": 60, "attainment": 0.99},
        ),
    ],
)


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
    told = []
    for now_s in (110.0, 110.1, 0.0):
        clock.now_s = now_s
        told.append(deadline())
    assert told == [False, True, True]
    assert deadline.fired


def test_a_deadline_that_nobody_asked_about_cut_nothing_short() -> None:
    clock = Clock()
    deadline = Deadline(limit_s=10.0, clock=clock)
    clock.now_s += 20.0
    assert not deadline.fired


def test_the_first_interrupt_only_sets_the_flag_and_the_second_ends() -> None:
    stream = StringIO()
    with pytest.raises(KeyboardInterrupt), interruptible(stream=stream) as interrupt:
        assert not interrupt()
        signal.raise_signal(signal.SIGINT)
        assert interrupt()
        assert stream.getvalue().startswith(STOPPING) and stream.getvalue().count("\n") == 1
        signal.raise_signal(signal.SIGINT)


def test_the_handler_of_before_is_back_afterwards_even_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible(stream=StringIO()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError), interruptible(stream=StringIO()):
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


class CancelledAt:
    """Asks for a stop from the n-th time on that it is asked itself."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.left


def test_a_stop_at_any_moment_gives_a_sound_plan_that_holds_or_none() -> None:
    loaded = load(SEVERAL_ROUNDS)
    options = replace(OPTIONS, draws=3)
    whole = CancelledAt(10_000)
    best = plan_spec(loaded, replace(options, cancelled=whole), Progress())
    assert best.termination == "optimal" and best.cost_usd_per_hour is not None
    kept = 0
    for moment in range(whole.asked):
        plan = plan_spec(loaded, replace(options, cancelled=CancelledAt(moment)), Progress())
        assert plan.termination == "cancelled"
        assert check_plan(plan) == []
        if plan.groups:
            kept += 1
            assert plan.verified is not None and plan.verified.held
            assert plan.cost_usd_per_hour is not None
            assert plan.cost_usd_per_hour >= best.cost_usd_per_hour - 1e-6
        else:
            assert plan.conflicts and plan.cost_usd_per_hour is None
    assert kept >= whole.asked // 2, "once a mix was simulated, there is a plan to keep"


def test_a_stop_before_the_first_mix_is_no_plan_and_not_called_infeasible() -> None:
    plan = plan_spec(load(spec()), replace(OPTIONS, cancelled=lambda: True), Progress())
    assert not plan.groups and plan.termination == "cancelled"
    assert "cancelled before a plan was found" in render_plan(plan)
    assert "cannot hold together" not in render_plan(plan)


def planning(*words: str) -> "subprocess.Popen[str]":
    """`muxplan plan` of the example, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "planner.cli", "plan", str(EXAMPLE), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: "subprocess.Popen[str]", wanted: str) -> None:
    """Read its stderr up to the first line that holds the words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if wanted in line:
            return
    raise AssertionError(f"'{wanted}' was never said: {lines}")


def test_ctrl_c_keeps_the_best_plan_and_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    with planning("-o", str(path)) as process:
        read_until(process, "round 1: ")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count(STOPPING) == 1 and "Traceback" not in err
    assert "Cancelled: the plan is the best so far." in out
    plan = read_plan(path)
    assert plan.termination == "cancelled" and plan.groups
    assert plan.verified is not None and plan.verified.held
    assert check_plan(plan) == []


def test_ctrl_c_twice_ends_at_once_and_writes_nothing(tmp_path: Path) -> None:
    with planning("-o", str(tmp_path / "plan.yaml")) as process:
        read_until(process, "round 1: ")
        process.send_signal(signal.SIGINT)
        read_until(process, STOPPING)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == "" and err.endswith("muxplan: interrupted\n") and "Traceback" not in err
    assert not list(tmp_path.iterdir())
