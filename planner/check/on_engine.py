"""`check --on vllm`: the plan's own launch commands started here, under the plan's own traffic."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from planner.check.bind import Bound
from planner.check.load import CheckLoad
from planner.check.windows import Window, window_of
from planner.export import vllm
from planner.load.client import closed_loop, open_loop
from planner.load.metrics import KV_USED, PREEMPTIONS, RUNNING, STEPS, WAITING, scrape
from planner.load.requests import Answers, Sending, Target
from planner.profile_windows import SHORT_PROMPT, decode_burst, wake
from planner.progress import Progress
from planner.runtime.engine_process import HOST, EngineProcess, check_memory, start_engine
from planner.runtime.environment import EngineEnvironment
from planner.runtime.errors import EngineError
from profiles.step_fit import WorkerTime

WARM_UP = 4
WARM_UP_TOKENS = 8
SAMPLE_S = 2.0
HANG_S = 60.0
"""A step takes seconds at most: an engine that has requests and makes none for so long will make none."""
BURSTS, BURST = 3, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where and how engines are started here."""

    environment: EngineEnvironment
    logs: Path
    dummy_weights: bool
    process_bytes: int
    """Memory that an engine takes beside weights and KV, guarded on the CPU."""
    cancelled: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Running:
    """An engine of the check, and what its own counters said."""

    bound: Bound
    engine: EngineProcess
    target: Target
    start_s: float = 0.0
    kv_tokens: int | None = None
    kv_used_peak_fraction: float = 0.0
    waiting_peak: int = 0
    preemptions: int = 0
    bursts: list[WorkerTime] = field(default_factory=list)


@contextmanager
def engines(
    bounds: Sequence[Bound], vocabulary: dict[str, int], runtime: Runtime, progress: Progress
) -> Iterator[list[Running]]:
    """The engines of a check, started one after the other and all stopped at the end, whatever happens."""
    started: list[Running] = []
    try:
        for bound in bounds:
            started.append(_start(bound, vocabulary[bound.launch.group.id], runtime))
            running = started[-1]
            progress.say(f"{running.engine.label} starts on {_devices(bound)}")
            running.start_s = running.engine.wait_ready(bound.launch.model, cancelled=runtime.cancelled)
            running.kv_tokens = scrape(running.target.url).kv_tokens
            progress.say(f"{running.engine.label} answers after {running.start_s:.0f} s")
        yield started
    finally:
        for running in started:
            running.engine.stop()


def _devices(bound: Bound) -> str:
    kind = "core" if bound.launch.device == "cpu" else "GPU"
    return f"{kind} {', '.join(str(i) for i in bound.launch.gpu_indices)}"


def _start(bound: Bound, vocabulary: int, runtime: Runtime) -> Running:
    launch = bound.launch
    label = f"the engine of {launch.group.id} ({launch.model})"
    if launch.device == "cpu":
        kv_bytes = int(launch.arguments.get("kv-cache-memory-bytes", 0))
        check_memory(label, runtime.process_bytes + launch.checkpoint_bytes + kv_bytes)
    if launch.mps_percent is not None and not (_mps_pipes() / "control").exists():
        raise EngineError(
            f"{label} has {launch.mps_percent} % of its GPU, and no MPS control daemon runs here to keep it to that:"
            " start nvidia-cuda-mps-control -d."
        )
    settings = vllm.settings(launch, launch.port) | {"host": HOST}
    if runtime.dummy_weights:
        settings |= {"load-format": "dummy", "skip-tokenizer-init": True}
    (runtime.logs / f"{launch.label}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    engine = start_engine(
        label,
        runtime.environment.command(vllm.command(launch)),
        vllm.environment(launch),
        folder=runtime.logs,
        port=launch.port,
        log=runtime.logs / f"{launch.label}.log",
    )
    url = f"http://{HOST}:{launch.port}"
    return Running(bound=bound, engine=engine, target=Target(url=url, model=launch.model, vocabulary=vocabulary))


def _mps_pipes() -> Path:
    """Where an MPS control daemon listens, as CUDA looks for it."""
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))


def warm_up(running: Sequence[Running]) -> None:
    """A few requests to every engine: what it does only once is done before anything is measured."""
    for number, one in enumerate(running):
        sending = Sending(
            due_s=np.zeros(WARM_UP),
            input_tokens=np.full(WARM_UP, WARM_UP_TOKENS),
            output_tokens=np.full(WARM_UP, WARM_UP_TOKENS),
            target=np.zeros(WARM_UP, dtype=np.int64),
        )
        answers = closed_loop([one.target], sending, 2, seed=number)
        if not answers.served.all():
            raise EngineError(f"{one.engine.label} fails: {_errors(answers)}; {one.engine.why()}")


def window(
    running: Sequence[Running], load: CheckLoad, duration_s: float, seed: int, cancelled: Callable[[], bool]
) -> tuple[Window, str | None]:
    """(what came back of a load of so many seconds, why it was cut short). An engine that dies ends the window."""
    before = [scrape(one.target.url) for one in running]
    with _watched(running) as watch:
        answers = open_loop(
            [one.target for one in running],
            load.sent(load.group),
            seed=seed,
            cancelled=lambda: cancelled() or bool(watch.hung) or any(not one.engine.alive() for one in running),
        )
    ended = _why_ended(running, watch, cancelled)
    if ended is None:
        for number, one in enumerate(running):
            one.preemptions += int(scrape(one.target.url).get(PREEMPTIONS) - before[number].get(PREEMPTIONS))
    return window_of(load, answers, duration_s, cut=ended is not None), ended


def _why_ended(running: Sequence[Running], watch: "_Watch", cancelled: Callable[[], bool]) -> str | None:
    dead = [one for one in running if not one.engine.alive()]
    if dead:
        return f"{dead[0].engine.label} died under load: {dead[0].engine.why()}"
    if watch.hung:
        return f"{watch.hung} hangs: it has requests and made no step for {HANG_S:.0f} s."
    return "cancelled" if cancelled() else None


def bursts(one: Running, others: Sequence[Target], seed: int, cancelled: Callable[[], bool]) -> None:
    """Bursts that keep an engine busy while `others` are awake, and its worker's processor time over each (a worker
    that waits spins).
    """
    count = min(BURST, int(one.bound.launch.arguments["max-num-seqs"]))
    for number in range(BURSTS):
        wake(others, seed)
        _, worker = decode_burst(one.engine, one.target, (count, SHORT_PROMPT), BURSTS * seed + number, cancelled)
        one.bursts += worker


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Samples the engines' gauges while a window runs. `hung` names an engine that has stopped making steps."""

    running: Sequence[Running]
    hung: str = ""
    steps: dict[int, float] = field(default_factory=dict)
    moved_s: dict[int, float] = field(default_factory=dict)

    def look(self) -> None:
        for number, one in enumerate(self.running):
            try:
                found = scrape(one.target.url)
            except EngineError:
                # A dead engine is noticed by the window itself, with its reason; one that says nothing may hang.
                if time.monotonic() - self.moved_s.setdefault(number, time.monotonic()) > HANG_S:
                    self.hung = one.engine.label
                continue
            one.kv_used_peak_fraction = max(one.kv_used_peak_fraction, found.get(KV_USED))
            one.waiting_peak = max(one.waiting_peak, int(found.get(WAITING)))
            idle = found.get(WAITING) + found.get(RUNNING) == 0
            if idle or found.get(STEPS) != self.steps.get(number) or number not in self.moved_s:
                self.steps[number] = found.get(STEPS)
                self.moved_s[number] = time.monotonic()
            elif time.monotonic() - self.moved_s[number] > HANG_S:
                self.hung = one.engine.label


@contextmanager
def _watched(running: Sequence[Running]) -> Iterator[_Watch]:
    """A watch over the engines while a window runs."""
    done, found = threading.Event(), _Watch(running=running)

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            found.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _errors(answers: Answers) -> str:
    return ", ".join(f"{count} × {what}" for what, count in answers.errors.items())
