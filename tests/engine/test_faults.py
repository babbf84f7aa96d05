"""What goes wrong with a real engine during a check: it is told, what was measured is kept, nothing is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from planner.runtime.environment import EngineEnvironment
from tests.engine.pair import engines_running, two_free_ports

GROUP = "write@cores/writer/fp32/tp1pp1ep1#0"


@contextmanager
def checking(planned: Path, environment: EngineEnvironment, output: str) -> "Iterator[subprocess.Popen[str]]":
    """A check of one group under way."""
    words = ["check", "plan.yaml", "-o", output, "--duration", "60", "--group", GROUP]
    words += ["--first-port", str(two_free_ports())]
    process = subprocess.Popen(
        [sys.executable, "-m", "planner.cli", *words],
        cwd=planned,
        env={
            **os.environ,
            "MUXPLAN_ENGINE_PYTHON": str(environment.python),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(process: "subprocess.Popen[str]", words: str) -> None:
    """Wait until the check says `words`."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"the check never said '{words}'")


def worker(planned: Path) -> psutil.Process:
    return next(p for p in engines_running(planned) if "VLLM::Worker" in " ".join(p.cmdline()))


def gone(planned: Path, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not engines_running(planned):
            return True
        time.sleep(0.2)
    return False


def kept(planned: Path, output: str) -> dict[str, Any]:
    """The result that an ended check left, some of whose requests were answered."""
    found: dict[str, Any] = json.loads((planned / output).read_text())
    ttft = next(iter(found["groups"].values()))["requests"]["ttft_s"]
    assert 5 < sum(t is not None for t in ttft) <= len(ttft) < 120
    assert not found["held"]
    return found


def test_a_worker_that_is_killed_under_load(planned: Path, environment: EngineEnvironment) -> None:
    with checking(planned, environment, "killed.json") as process:
        told(process, "window 1 of 1")
        time.sleep(8)
        worker(planned).kill()
        assert process.wait(120) == 1
    assert "died under load" in kept(planned, "killed.json")["ended"]
    assert gone(planned, within_s=5)


def test_a_check_that_is_interrupted_under_load(planned: Path, environment: EngineEnvironment) -> None:
    with checking(planned, environment, "interrupted.json") as process:
        told(process, "window 1 of 1")
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 1
    assert kept(planned, "interrupted.json")["ended"] == "cancelled"
    assert gone(planned, within_s=5)


def test_a_check_that_is_killed_leaves_nothing(planned: Path, environment: EngineEnvironment) -> None:
    with checking(planned, environment, "never.json") as process:
        told(process, "starts on core")
        until = time.monotonic() + 30
        while not engines_running(planned) and time.monotonic() < until:
            time.sleep(0.1)
        assert engines_running(planned)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert gone(planned, within_s=60)
    assert not (planned / "never.json").exists()
