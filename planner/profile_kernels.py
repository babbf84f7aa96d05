"""`muxplan profile kernels`: this machine's own kernels, measured with torch where reading between points is worst."""

import csv
import datetime
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from planner.kernel_lines import Extent, kernel_lines
from planner.progress import Progress
from planner.runtime.errors import EngineError
from planner.runtime.torch_worker import Device, TorchWorker, crew
from planner.sweep_journal import Journal
from profiles.adaptive_grid import AdaptiveGrid, Line, Measured
from profiles.catalogue_files import Provenance
from profiles.gpus import ASSUMED_SISTER, Gpu, find_gpu
from profiles.import_csv import US_PER_S, read_csv
from profiles.import_tables import Imported, build_tables
from profiles.kernel_kinds import KINDS
from profiles.kernel_store import check_replaceable, write_tables
from profiles.step_time import Deployment

POINT_S = 0.1
"""How long a point is measured, warm-up not counted."""
ANSWER_S = 600.0
TOLD_EVERY_S = 5.0
COLUMNS = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.columns))
POINTS_FILE, GPU_FILE = "points.csv", "gpu.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure: until no error beyond the target is expected between points, or the time is up.

    `deployments` are those whose curves are wanted, on the device that is found here.
    """

    python: Path
    device: Device
    cores: Sequence[int]
    gpu: str | None
    deployments: Callable[[Gpu], Sequence[Deployment]]
    extent: Extent
    target_fraction: float
    time_limit_s: float
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """What was measured. `ended`: why it stopped before the target was reached, None when it did not.

    `noise_limited`: kernels that repeat worse than the target, and by how much their points may be off by chance.
    """

    gpu: Gpu
    imported: Imported
    points: int
    failed: Mapping[str, int]
    between_errors: Sequence[float]
    worst_expected_fraction: float
    noise_limited: Mapping[str, float]
    ended: str | None


@dataclass(slots=True, kw_only=True)
class _Bench:
    """The processes that measure, started when first needed: one alone, and a crew for each number of ranks."""

    settings: Settings
    stack: ExitStack
    crews: dict[int, list[TorchWorker]] = field(default_factory=dict)

    def workers(self, ranks: int) -> list[TorchWorker]:
        """So many processes; more than one run collectives together."""
        if ranks not in self.crews:
            s = self.settings
            alone = TorchWorker(python=s.python, device=s.device, cores=s.cores)
            made = [alone] if ranks == 1 else crew(s.python, s.device, ranks, s.cores)
            self.crews[ranks] = [self.stack.enter_context(worker) for worker in made]
        return self.crews[ranks]

    def measure(self, line: Line, size: int) -> dict[str, Any]:
        """The answer of the first rank; an error of any rank is the answer."""
        columns = line.columns(size)
        asked = {"do": "measure", "kernel": line.kernel, "columns": columns, "budget_s": POINT_S}
        workers = self.workers(int(line.fixed["gpus"]) if line.kernel == "collective" else 1)
        for worker in workers:
            worker.send(asked)
        answers = [worker.receive(ANSWER_S) for worker in workers]
        return next((a for a in answers if "error" in a), answers[0])


def profile_kernels(settings: Settings, progress: Progress, cancelled: Callable[[], bool]) -> KernelProfile:
    """Measure, go on where an earlier run of the same was stopped, and write the tables (whole, or not at all).

    EngineError when the device cannot be measured or not one point was; ProfileError when the GPU cannot run a model or
    the folder holds something else.
    """
    check_replaceable(settings.folder)
    with ExitStack() as stack:
        bench = _Bench(settings=settings, stack=stack)
        path = settings.folder.with_name(settings.folder.name + ".journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        key = _key(settings, bench.workers(1)[0].ask({"do": "describe"}))
        journal = stack.enter_context(Journal(path, key, "kernel profile"))
        if 0 not in journal.rows:
            progress.say("measuring what the device is")
            journal.add(0, bench.workers(1)[0].described())
        described = journal.rows[0]
        gpu = described_gpu(described, settings.device, settings.gpu)
        grid = AdaptiveGrid(
            lines=kernel_lines(settings.extent, settings.deployments(gpu), _ranks(described, settings)),
            gpu=gpu,
            target_fraction=settings.target_fraction,
        )
        run = _Run(bench=bench, grid=grid, journal=journal, settings=settings, progress=progress)
        ended = run.go(cancelled)
        found = run.finish(gpu, described, ended)
        if ended is None:
            journal.remove()
    return found


def _key(settings: Settings, described: Mapping[str, Any]) -> str:
    """What an earlier run must have been for its points to count."""
    device = [described["name"], described["torch"], described["driver"]]
    return json.dumps([settings.device, list(settings.cores), settings.gpu, *device])


def _ranks(described: Mapping[str, Any], settings: Settings) -> int:
    return int(described["devices"]) if settings.device == "cuda" else len(settings.cores)


def described_gpu(described: Mapping[str, Any], device: Device, named: str | None) -> Gpu:
    """The GPU that is named, or what was measured of this device."""
    if named is not None:
        return find_gpu(named)
    cpu = device == "cpu"
    name = f"{described['name']} {described['threads']} threads" if cpu else str(described["name"])
    link = described["link_bytes_per_s"]
    return Gpu(
        name="-".join("".join(c if c.isalnum() else " " for c in name.lower()).split()),
        generation="cpu" if cpu else "other",
        memory_bytes=described["memory_bytes"],
        visible_memory_bytes=described["memory_bytes"],
        memory_bandwidth_bytes_per_s=described["memory_bandwidth_bytes_per_s"],
        peak_flops=described["peak_flops"],
        sm_count=described["sm_count"],
        l2_bytes=described["cache_bytes"],
        sister=ASSUMED_SISTER,
        **({"pcie_bytes_per_s": link} if link else {}),
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """The measuring itself."""

    bench: _Bench
    grid: AdaptiveGrid
    journal: Journal
    settings: Settings
    progress: Progress
    failed: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    fresh: int = 0

    def go(self, cancelled: Callable[[], bool]) -> str | None:
        """Measure point after point; why it ended early, None when the target was reached."""
        known = {_name(row["kernel"], row["columns"]): row for number, row in self.journal.rows.items() if number}
        began = told = self.progress.clock()
        while (wanted := self.grid.next()) is not None:
            line, size = self.grid.lines[wanted[0]], wanted[1]
            name = _name(line.kernel, line.columns(size))
            if name not in known:
                now = self.progress.clock()
                if cancelled():
                    return "interrupted: the same command goes on from here"
                if now - began > self.settings.time_limit_s:
                    return f"the time limit of {self.settings.time_limit_s:g} s: the same command goes on from here"
                known[name] = self._measured(line, size)
                if now - told > TOLD_EVERY_S:
                    told = now
                    self._tell(now - began)
            self._take_up(wanted, known[name])
        return None

    def finish(self, gpu: Gpu, described: Mapping[str, Any], ended: str | None) -> KernelProfile:
        """The tables of what was measured, written."""
        if not self.rows:
            raise EngineError(f"not one kernel was measured ({ended or _first(self.failed)}).")
        text = points_csv(self._evened_out(), str(described["name"]))
        origin = (
            f"muxplan profile kernels on {described['name']}, torch {described['torch']}, {described['driver']},"
            f" {len(self.rows)} points: medians, data out of the cache"
        )
        imported = imported_points(text, gpu, origin)
        folder = self.settings.folder
        own = gpu.model_copy(
            update={
                "kernels": "./",
                "sources": (Provenance(source=origin, date=datetime.date.today(), covers=("kernels",)),),
            }
        )
        gpu_text = yaml.safe_dump(own.model_dump(mode="json", exclude_none=True), sort_keys=False)
        write_tables(folder, imported.index, imported.packed, {POINTS_FILE: text, GPU_FILE: gpu_text})
        return KernelProfile(
            gpu=own.model_copy(update={"kernels": str(folder.absolute())}),
            imported=imported,
            points=len(self.rows),
            failed=self.failed,
            between_errors=self.grid.errors,
            worst_expected_fraction=self.grid.worst_expected,
            noise_limited=self.grid.limited,
            ended=ended,
        )

    def _evened_out(self) -> list[dict[str, Any]]:
        """The rows with the seconds that tables are to hold, and beside them those that were measured."""
        held = {
            _name(line.kernel, line.columns(size)): seconds
            for number, line in enumerate(self.grid.lines)
            for size, seconds in self.grid.seconds(number).items()
        }
        return [
            {**row, "measured_s": row["seconds"], "seconds": held[_name(row["kernel"], row["columns"])]}
            for row in self.rows
        ]

    def _measured(self, line: Line, size: int) -> dict[str, Any]:
        answer = self.bench.measure(line, size)
        row: dict[str, Any] = {"kernel": line.kernel, "columns": line.columns(size)}
        if "error" in answer:
            row |= {"error": answer["error"], "unsupported": answer.get("unsupported", False)}
        else:
            low, middle, high = np.quantile(answer["seconds"], (0.1, 0.5, 0.9)).tolist()
            row |= {"seconds": middle, "spread_fraction": round((high - low) / middle, 4)}
            row |= {"runs": len(answer["seconds"]), "timed_by": answer["how"]}
        self.journal.add(len(self.journal.rows), row)
        self.fresh += 1
        return row

    def _take_up(self, wanted: tuple[int, int], row: dict[str, Any]) -> None:
        if "error" in row:
            what = f"{row['kernel']}: {row['error']}"
            self.failed[what] = self.failed.get(what, 0) + 1
            self.grid.give_up(wanted[0], self.grid.lines[wanted[0]].low if row["unsupported"] else wanted[1])
        else:
            self.rows.append(row)
            measured = {name: row[name] for name in ("seconds", "spread_fraction", "runs")}
            self.grid.add(*wanted, Measured(**measured))

    def _tell(self, spent_s: float) -> None:
        """How far it is, and how long it takes: at least what is certainly to be measured, at most the limit."""
        left_s = self.settings.time_limit_s - spent_s
        least_s = min(self.grid.remaining * spent_s / self.fresh, left_s)
        worst = self.grid.worst_expected
        known = f"up to {worst:.0%} off between points" if worst < 1e9 else "first points of every curve"
        to_come = f"{self.grid.remaining} or more to come, {least_s:.0f} to {left_s:.0f} s left"
        self.progress.say(f"{len(self.rows)} points, {known}; {to_come}")


def _name(kernel: str, columns: Mapping[str, Any]) -> str:
    return json.dumps([kernel, sorted(columns.items())])


def _first(failed: Mapping[str, int]) -> str:
    return next(iter(failed), "there is none that fits on the device")


def points_csv(rows: Sequence[Mapping[str, Any]], device: str) -> str:
    """The points in the form that `muxplan profile import csv` reads, with what was measured and its spread."""
    stream = io.StringIO()
    header = ("device", "kernel", *COLUMNS, "latency_us", "measured_us", "spread_fraction", "runs", "timed_by")
    writer = csv.DictWriter(stream, header, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        own = {"device": device, "kernel": row["kernel"], "latency_us": f"{row['seconds'] * US_PER_S:.6g}"}
        told = {name: row[name] for name in ("spread_fraction", "runs", "timed_by")}
        told["measured_us"] = f"{row['measured_s'] * US_PER_S:.6g}"
        writer.writerow({**own, **row["columns"], **told})
    return stream.getvalue()


def imported_points(text: str, gpu: Gpu, origin: str) -> Imported:
    """The points through the checks and lints of every import."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / POINTS_FILE
        path.write_text(text, encoding="utf-8")
        reading = replace(read_csv(gpu, path), origin=origin)
    return build_tables(reading, gpu, datetime.date.today(), "")
