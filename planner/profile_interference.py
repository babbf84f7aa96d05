"""`muxplan profile interference`: how much kernels slow each other down when they share a device, measured in pairs."""

import datetime
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from planner.interference_loads import Shape, demand_of, load_shapes
from planner.profile_kernels import described_gpu
from planner.progress import Progress
from planner.runtime.errors import EngineError
from planner.runtime.torch_worker import Device, TorchWorker
from profiles.catalogue_files import Provenance
from profiles.gpus import Gpu
from profiles.interference import Interference, Load, Pair, Sharing, fit_contention, load_name, observations

LEAD_S = 0.05
"""Between the word to start and the window: by then all run."""
TRIES = 6
ANSWER_S = 600.0
TOO_SHORT, LATE = "no run fitted into the window", "the window had begun when the kernel started"
MPS_VARIABLE = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure: `shares` are those of the first of a pair, the second gets the rest; passes over everything."""

    python: Path
    device: Device
    sharing: Sequence[Sharing]
    cores: Sequence[int]
    shares: Sequence[float]
    window_s: float
    passes: int
    gpu: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a kernel runs: how it shares the device, its share, and the core (of a processor)."""

    sharing: Sharing
    share_fraction: float
    core: int = 0


Placed = tuple[str, Seat]
Seats = tuple[Seat, Seat]


def seats_of(settings: Settings) -> list[Seats]:
    """The ways in which two kernels are placed. EngineError for a sharing that the device does not have."""
    found: list[Seats] = []
    for sharing in settings.sharing:
        if (sharing == "cores") != (settings.device == "cpu"):
            raise EngineError(f"kernels on {settings.device} cannot share it by {sharing}.")
        if sharing == "cores":
            found += _core_seats(settings.cores)
        elif sharing == "streams":
            found.append((Seat(sharing=sharing, share_fraction=1.0),) * 2)
        else:
            found += [
                (Seat(sharing=sharing, share_fraction=s), Seat(sharing=sharing, share_fraction=round(1.0 - s, 4)))
                for s in settings.shares
            ]
    return found


def _core_seats(cores: Sequence[int]) -> list[Seats]:
    """Two processes on one core (each may use all of it), and on two cores (each has its own: half of the two)."""
    same = Seat(sharing="cores", share_fraction=1.0, core=cores[0])
    found = [(same, same)]
    if len(cores) > 1:
        first, second = (Seat(sharing="cores", share_fraction=0.5, core=core) for core in cores[:2])
        found.append((first, second))
    return found


def profile_interference(settings: Settings, progress: Progress, cancelled: Callable[[], bool]) -> Interference:
    """Measure every pair in every way of sharing, and fit the model. EngineError when it fails or is cancelled."""
    seats = seats_of(settings)
    if "mps" in settings.sharing:
        _check_mps()
    with ExitStack() as stack:
        bench = Bench(settings=settings, stack=stack)
        described = bench.worker(seats[0][0], 0).described()
        gpu = described_gpu(described, settings.device, settings.gpu)
        shapes = load_shapes(settings.device, gpu.half_precision)
        measured = _measure(bench, shapes, seats, progress, cancelled)
    return _fitted(measured, shapes, gpu, described, settings)


@dataclass(slots=True, kw_only=True)
class Bench:
    """The processes that run kernels, by seat and number (two may sit in the same seat)."""

    settings: Settings
    stack: ExitStack
    workers: dict[tuple[Seat, int], TorchWorker] = field(default_factory=dict)
    sm_count: int = 0
    longer: float = 1.0

    def worker(self, seat: Seat, number: int) -> TorchWorker:
        """The process of a seat; kernels that share by streams or green contexts are in one process."""
        inside = seat.sharing in ("streams", "green_contexts")
        key = (Seat(sharing="streams", share_fraction=1.0), 0) if inside else (seat, number)
        if key not in self.workers:
            percentage = {MPS_VARIABLE: f"{100 * seat.share_fraction:.0f}"} if seat.sharing == "mps" else {}
            made = TorchWorker(
                python=self.settings.python, device=self.settings.device, cores=(seat.core,), variables=percentage
            )
            self.workers[key] = self.stack.enter_context(made)
        return self.workers[key]

    def run(self, placed: Sequence[tuple[Shape, Seat]]) -> list[float]:
        """Seconds of each kernel while all of them run for the whole window."""
        asked = self._asked(placed)
        for _ in range(TRIES):
            answers = self._window(asked)
            errors = [a["error"] for a in answers if "error" in a]
            if not errors:
                return [float(one["seconds"]) for answer in answers for one in answer["kernels"]]
            if not {TOO_SHORT, LATE} >= set(errors):
                break
            self.longer *= 2 if TOO_SHORT in errors else 1
        raise EngineError(f"kernels cannot be measured together: {errors[0]}.")

    def _asked(self, placed: Sequence[tuple[Shape, Seat]]) -> list[tuple[TorchWorker, list[dict[str, Any]]]]:
        """Which process is to run what."""
        found: dict[int, tuple[TorchWorker, list[dict[str, Any]]]] = {}
        for number, (shape, seat) in enumerate(placed):
            worker = self.worker(seat, number)
            part: dict[str, Any] = {"kernel": shape[0], "columns": dict(shape[1])}
            if seat.sharing == "green_contexts":
                part["sms"] = max(round(seat.share_fraction * self._sms(worker)), 1)
            found.setdefault(id(worker), (worker, []))[1].append(part)
        return list(found.values())

    def _window(self, asked: Sequence[tuple[TorchWorker, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
        """The answers of the processes: all are made ready, then given the same window."""
        for worker, parts in asked:
            worker.send({"do": "loop", "kernels": parts})
        answers = [worker.receive(ANSWER_S) for worker, _ in asked]
        from_s = time.monotonic() + LEAD_S
        until_s = from_s + self.longer * self.settings.window_s
        waiting = [worker for (worker, _), answer in zip(asked, answers, strict=True) if "ready" in answer]
        for worker in waiting:
            worker.send({"from_s": from_s, "until_s": until_s})
        ended = [worker.receive(ANSWER_S) for worker in waiting]
        return [answer for answer in answers if "error" in answer] + ended

    def _sms(self, worker: TorchWorker) -> int:
        if not self.sm_count:
            self.sm_count = int(worker.ask({"do": "describe"})["sm_count"])
        return self.sm_count


@dataclass(slots=True, kw_only=True)
class _Measured:
    """Seconds alone by (load, seat), and for each pair the slow-down of both in each pass."""

    alone: dict[Placed, list[float]] = field(default_factory=dict)
    slowdowns: dict[tuple[Placed, Placed], list[tuple[float, float]]] = field(default_factory=dict)


def _pairs(names: Sequence[str], seats: Sequence[Seats]) -> Iterator[tuple[Placed, Placed]]:
    """Each pair of loads in each way of sharing; both ways round where the seats differ in their shares."""
    for first, second in seats:
        unequal = first.share_fraction != second.share_fraction
        chosen = itertools.product(names, names) if unequal else itertools.combinations_with_replacement(names, 2)
        for a, b in chosen:
            yield (a, first), (b, second)


def _measure(
    bench: Bench,
    shapes: Mapping[str, Shape],
    seats: Sequence[Seats],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> _Measured:
    """Passes over everything, so that what else the machine does falls on all of it."""
    found = _Measured()
    pairs = list(_pairs(list(shapes), seats)) * bench.settings.passes
    began = progress.clock()
    for number, pair in enumerate(pairs):
        if cancelled():
            raise EngineError("the measuring was cancelled: no file was written.")
        if number % 5 == 1:
            left_s = (progress.clock() - began) / number * (len(pairs) - number)
            progress.say(f"pair {number} of {len(pairs)}, about {left_s:.0f} s left")
        # Alone just before and after: what else the machine does at the time falls on both.
        first_s = _alone(bench, shapes, pair[0], found)
        together = bench.run([(shapes[name], seat) for name, seat in pair])
        second_s = _alone(bench, shapes, pair[1], found)
        found.slowdowns.setdefault(pair, []).append((together[0] / first_s, together[1] / second_s))
    return found


def _alone(bench: Bench, shapes: Mapping[str, Shape], placed: Placed, found: _Measured) -> float:
    seconds = bench.run([(shapes[placed[0]], placed[1])])[0]
    found.alone.setdefault(placed, []).append(seconds)
    return seconds


def _fitted(
    measured: _Measured, shapes: Mapping[str, Shape], gpu: Gpu, described: Mapping[str, Any], settings: Settings
) -> Interference:
    alone = {placed: float(np.median(seconds)) for placed, seconds in measured.alone.items()}
    loads = {}
    for (name, seat), seconds in alone.items():
        kernel, columns = shapes[name]
        demand = demand_of(shapes[name], seconds, seat.share_fraction, gpu)
        loads[_load_name((name, seat))] = Load(kernel=kernel, columns=dict(columns), alone_s=seconds, demand=demand)
    pairs = tuple(_pair(pair, ratios) for pair, ratios in measured.slowdowns.items())
    torch, driver = described["torch"], described["driver"]
    source = f"muxplan profile interference on {described['name']}, torch {torch}, {driver}, {settings.passes} passes"
    return Interference(
        gpu=gpu.name,
        device=str(described["name"]),
        sharing=tuple(settings.sharing),
        loads=loads,
        pairs=pairs,
        contention=fit_contention(observations(loads, pairs)),
        sources=(Provenance(source=source, date=datetime.date.today(), covers=("loads", "pairs", "contention")),),
    )


def _load_name(placed: Placed) -> str:
    name, seat = placed
    return load_name(name, seat.sharing, seat.share_fraction)


def _pair(pair: tuple[Placed, Placed], passes: Sequence[tuple[float, float]]) -> Pair:
    """Medians over the passes."""
    ratios = np.array(passes)
    middle = np.median(ratios, axis=0)
    return Pair(
        first=_load_name(pair[0]),
        second=_load_name(pair[1]),
        first_slowdown=round(float(middle[0]), 4),
        second_slowdown=round(float(middle[1]), 4),
        spread_fraction=round(float(np.max((ratios.max(axis=0) - ratios.min(axis=0)) / middle)), 4),
    )


def _check_mps() -> None:
    """EngineError when no MPS control daemon answers: without one, processes only take turns."""
    try:
        subprocess.run(
            ["nvidia-cuda-mps-control"],
            input="get_default_active_thread_percentage\n",
            capture_output=True,
            text=True,
            timeout=30.0,
            check=True,
            env=dict(os.environ),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(
            "no MPS control daemon answers: start one with `nvidia-cuda-mps-control -d`, or share by streams."
        ) from error
