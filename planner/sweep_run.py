"""Runs the variants of a sweep on all cores of this machine (or elsewhere: `sweep_ray`), resumable."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import BaseProcess
from typing import Protocol

from planner.progress import Progress
from planner.sweep import Row, Sweep, plan_variant
from planner.sweep_journal import Journal
from profiles.errors import PlanningError

POLL_S = 0.2

Cancelled = Callable[[], bool]


class SweepError(PlanningError):
    """The sweep cannot go on; what is finished is kept."""


class Runner(Protocol):
    """Plans variants somewhere and yields (number, row) as they finish, until told to stop."""

    def __call__(self, sweep: Sweep, indices: Sequence[int], cancelled: Cancelled) -> Iterator[tuple[int, Row]]: ...


def run_sweep(
    sweep: Sweep, journal: Journal, runner: Runner, progress: Progress, cancelled: Cancelled
) -> list[Row] | None:
    """All rows in the order of the variants; None when it was stopped before. Rows of the journal are not run again."""
    open_ones = [i for i in range(len(sweep.variants)) if i not in journal.rows]
    total = len(sweep.variants)
    if journal.rows:
        progress.say(f"{len(journal.rows)} of {total} variants are there from before")
    started_s = progress.clock()
    for done, (index, row) in enumerate(runner(sweep, open_ones, cancelled), start=1):
        journal.add(index, row)
        left_s = (progress.clock() - started_s) / done * (len(open_ones) - done)
        progress.say(f"{len(journal.rows)}/{total} {_said(sweep, index, row)}{_time_left(left_s)}")
    if len(journal.rows) < total:
        return None
    return [{"variant": index, **journal.rows[index]} for index in range(total)]


def _said(sweep: Sweep, index: int, row: Row) -> str:
    what = ", ".join(f"{path.split('.')[-1]}={value}" for path, value in sweep.variants[index].items())
    if row.get("cost_usd_per_hour") is None:
        return f"{what}: {row['termination']}"
    return f"{what}: {row['cost_usd_per_hour']:,.2f} USD/h, {row['gpus_bought']} GPUs"


def _time_left(left_s: float) -> str:
    if left_s <= 0:
        return ""
    minutes, seconds = divmod(round(left_s), 60)
    return f" (about {minutes} min {seconds} s left)" if minutes else f" (about {seconds} s left)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProcesses:
    """A runner: so many processes of this machine."""

    workers: int

    def __call__(self, sweep: Sweep, indices: Sequence[int], cancelled: Cancelled) -> Iterator[tuple[int, Row]]:
        """(number, row) of each variant as it finishes. SweepError when a worker dies."""
        # Solvers keep threads of their own, which a fork would not survive.
        context = multiprocessing.get_context("spawn")
        count = max(1, min(self.workers, len(indices)))
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(max_workers=count, mp_context=context, initializer=_become_worker) as pool:
            waiting = {pool.submit(plan_variant, sweep.loaded, sweep.variants[i], sweep.options): i for i in indices}
            workers = set(multiprocessing.active_children()) - others
            try:
                yield from _finished(waiting, cancelled)
            except BrokenProcessPool as error:
                raise SweepError(
                    "a worker process ended by itself (out of memory?): what is finished is kept; run the same command"
                    " again, with fewer --workers."
                ) from error
            finally:
                _end(pool, workers)


def _finished(waiting: dict[Future[Row], int], cancelled: Cancelled) -> Iterator[tuple[int, Row]]:
    left = set(waiting)
    while left and not cancelled():
        done, left = wait(left, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting[future], future.result()


def _end(pool: ProcessPoolExecutor, workers: Iterable[BaseProcess]) -> None:
    """Variants that are half planned are dropped, not waited for."""
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _become_worker() -> None:
    # Ctrl-C reaches all processes of a terminal: the first process decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
