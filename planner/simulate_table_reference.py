"""Latency-table cells event by event in plain Python: slow and obvious. The compiled kernel must agree.

Kinds of events, in this order at equal times: a request ends, a request arrives, a replica starts a batch.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

import numpy as np

from planner.simulate_types import DEADLINE_TOLERANCE_S, FloatArray, Outcome, Router, TableCell
from profiles.step_table import Component


class Kind(IntEnum):
    """Kinds of events, in the order in which they happen at one time."""

    END = 0
    ARRIVAL = 1
    START = 2


@dataclass(slots=True)
class Replica:
    """One replica: the requests (indices) in its queue, and when each stage is free."""

    index: int
    stage_free_s: list[float]
    queue: deque[int] = field(default_factory=deque)
    unfinished: int = 0


class Simulation:
    """One run over a cell. `run` returns the outcome."""

    def __init__(self, cell: TableCell, arrival_s: FloatArray, horizon_s: float = inf) -> None:
        self.cell = cell
        self.arrival_s = arrival_s
        self.horizon_s = horizon_s
        self.replicas = [Replica(index=i, stage_free_s=[0.0] * cell.latency_s.shape[1]) for i in range(cell.copies)]
        self.end_s: dict[int, float] = {}
        self.replica_of: dict[int, int] = {}
        self.busy_s = 0.0
        self.batches = 0
        self.events = [(float(at), Kind.ARRIVAL, i, i) for i, at in enumerate(arrival_s)]
        heapq.heapify(self.events)

    def run(self) -> Outcome:
        """Let everything happen up to the horizon."""
        while self.events:
            now, kind, number, index = heapq.heappop(self.events)
            if now > self.horizon_s:
                continue
            if kind == Kind.ARRIVAL:
                self.arrive(index, now)
            elif kind == Kind.END:
                self.end_s[index] = now
                self.replicas[number].unfinished -= 1
            else:
                self.start(self.replicas[number], now)
        return self.outcome()

    def arrive(self, index: int, now: float) -> None:
        """The request joins the queue of its replica."""
        if self.cell.router is Router.ROUND_ROBIN:
            replica = self.replicas[index % self.cell.copies]
        else:
            replica = min(self.replicas, key=lambda r: r.unfinished)
        self.replica_of[index] = replica.index
        replica.unfinished += 1
        replica.queue.append(index)
        if len(replica.queue) == 1:
            self.plan_start(replica, now)

    def plan_start(self, replica: Replica, now: float) -> None:
        """Start as soon as the first stage is free."""
        heapq.heappush(self.events, (max(now, replica.stage_free_s[0]), Kind.START, replica.index, 0))

    def stage_ends_s(self, replica: Replica, row: int, now: float) -> list[float]:
        """When each stage would be through with a batch of `batches[row]` that starts now."""
        ends: list[float] = []
        at = now
        for free_s, latency_s in zip(replica.stage_free_s, self.cell.latency_s[row], strict=True):
            at = max(at, free_s) + float(latency_s)
            ends.append(at)
        return ends

    def in_time(self, replica: Replica, row: int, now: float) -> bool:
        """Whether the head of the queue would meet its deadline in such a batch."""
        end_s = self.stage_ends_s(replica, row, now)[-1] + self.cell.fixed_overhead_s
        return bool(end_s - self.arrival_s[replica.queue[0]] <= self.cell.deadline_s + DEADLINE_TOLERANCE_S)

    def start(self, replica: Replica, now: float) -> None:
        """Drop what is too late, then start the largest batch that suits the head of the queue."""
        while replica.queue and not self.in_time(replica, 0, now):
            replica.queue.popleft()
            replica.unfinished -= 1
        if not replica.queue:
            return
        most = min(len(replica.queue), self.cell.max_batch)
        fitting = [i for i, size in enumerate(self.cell.batches) if size <= most and self.in_time(replica, i, now)]
        row = max(fitting, default=0)
        ends = self.stage_ends_s(replica, row, now)
        replica.stage_free_s = ends
        self.busy_s += float(self.cell.latency_s[row].mean())
        self.batches += 1
        for _ in range(min(most, int(self.cell.batches[row]))):
            end = (ends[-1] + self.cell.fixed_overhead_s, Kind.END, replica.index, replica.queue.popleft())
            heapq.heappush(self.events, end)
        if replica.queue:
            self.plan_start(replica, now)

    def outcome(self) -> Outcome:
        """What the requests saw."""
        count = self.arrival_s.size
        e2e_s = np.array([self.end_s.get(i, np.nan) - self.arrival_s[i] for i in range(count)])
        return Outcome(
            arrival_s=np.where(self.arrival_s <= self.horizon_s, self.arrival_s, np.inf),
            ttft_s=np.full(count, np.nan),
            e2e_s=e2e_s,
            tpot_s=np.full(count, np.nan),
            served=np.array([i in self.end_s for i in range(count)], dtype=np.bool_),
            replica=np.array([self.replica_of.get(i, -1) for i in range(count)], dtype=np.int64),
            request_preemptions=np.zeros(count, dtype=np.int64),
            component_s=np.zeros(len(Component)),
            busy_s=self.busy_s,
            steps=self.batches,
            kv_peak_fraction=0.0,
        )
