"""Latency-table replicas, compiled: queue, dynamic batching, pipeline stages, drop.

When the first stage is free the head of the queue is dropped if it cannot meet its deadline even alone; else the
largest measured batch is taken that is there, is allowed, and lets the head meet its deadline. Stages serve batches in
order. At equal times: ends, then arrivals, then starts.
"""

import numpy as np
from numba import njit

from planner.simulate_types import FloatArray, IntArray

DROPPED = -1.0


@njit(cache=True, nogil=True)
def _finish_s(latency_s: FloatArray, stage_free_s: FloatArray, row: int, start: float) -> float:
    """When the last stage would be through with a batch that enters the first one at `start`."""
    at = start
    for stage in range(latency_s.shape[1]):
        at = max(at, stage_free_s[stage]) + latency_s[row, stage]
    return at


@njit(cache=True, nogil=True)
def simulate_table(
    latency_s: FloatArray,
    batches: IntArray,
    max_batch: int,
    overhead_s: float,
    deadline_s: float,
    least_loaded: bool,
    arrival_s: FloatArray,
    e2e_s: FloatArray,
    replica: IntArray,
    copies: int,
    horizon_s: float,
) -> tuple[float, int]:
    """Fill `e2e_s` (NaN: dropped or unfinished) and `replica`; (seconds busy a stage, batches run) come back."""
    count = arrival_s.shape[0]
    stages = latency_s.shape[1]
    stage_free = np.zeros((copies, stages))
    # Queue and requests in service of a replica: one list in arrival order.
    finish_s = np.full(count, np.inf)
    following = np.full(count, -1, dtype=np.int64)
    head = np.full(copies, -1, dtype=np.int64)
    tail = np.full(copies, -1, dtype=np.int64)
    serving = np.full(copies, -1, dtype=np.int64)
    waiting = np.zeros(copies, dtype=np.int64)
    unfinished = np.zeros(copies, dtype=np.int64)
    busy_s = 0.0
    steps = 0
    arrived = 0
    while True:
        arrival = np.inf
        if arrived < count and arrival_s[arrived] <= horizon_s:
            arrival = arrival_s[arrived]
        which = -1
        if arrival < np.inf and not least_loaded:
            which = arrived % copies
        for rep in range(copies):
            if which >= 0 and rep != which:
                continue
            # Batches that start before the arrival.
            while head[rep] >= 0:
                start = max(stage_free[rep, 0], arrival_s[head[rep]])
                if start >= arrival or start > horizon_s:
                    break
                first = head[rep]
                if _finish_s(latency_s, stage_free[rep], 0, start) + overhead_s - arrival_s[first] > deadline_s:
                    head[rep] = following[first]
                    finish_s[first] = DROPPED
                    waiting[rep] -= 1
                    unfinished[rep] -= 1
                    continue
                row = 0
                most = min(waiting[rep], max_batch)
                for candidate in range(1, batches.shape[0]):
                    if batches[candidate] > most:
                        break
                    finish = _finish_s(latency_s, stage_free[rep], candidate, start)
                    if finish + overhead_s - arrival_s[first] <= deadline_s:
                        row = candidate
                at = start
                for stage in range(stages):
                    at = max(at, stage_free[rep, stage]) + latency_s[row, stage]
                    stage_free[rep, stage] = at
                    busy_s += latency_s[row, stage] / stages
                steps += 1
                size = min(batches[row], most)
                waiting[rep] -= size
                for _ in range(size):
                    r = head[rep]
                    finish_s[r] = at + overhead_s
                    if finish_s[r] <= horizon_s:
                        e2e_s[r] = finish_s[r] - arrival_s[r]
                    head[rep] = following[r]
        if arrival == np.inf:
            break
        if which < 0:
            which = 0
            for rep in range(copies):
                # Finished ones leave the front of the list, dropped ones left the count when they were dropped.
                r = serving[rep]
                while r >= 0 and r != head[rep]:
                    if finish_s[r] > arrival:
                        break
                    if finish_s[r] >= 0.0:
                        unfinished[rep] -= 1
                    r = following[r]
                serving[rep] = r
                if unfinished[rep] < unfinished[which]:
                    which = rep
        r = arrived
        arrived += 1
        replica[r] = which
        if head[which] < 0:
            head[which] = r
        if serving[which] < 0:
            serving[which] = r
        if tail[which] >= 0:
            following[tail[which]] = r
        tail[which] = r
        waiting[which] += 1
        unfinished[which] += 1
    return busy_s, steps
