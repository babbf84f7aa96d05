"""Cells: what a queue with so many copies does with its slice of the traffic, found by simulation and remembered.

Every workload has a fixed set of draws (common random numbers). A request carries one uniform number; a route takes
those whose number falls into its interval, so that two plans that differ in one route see the same requests elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.cell_memory import CellMemory, Counts, fingerprint
from planner.demand import Demand, SloLimits, WorkloadDemand
from planner.queues import LatencyServing, LlmServing, Queue
from planner.score import attained
from planner.simulate import simulate_many
from planner.simulate_types import LlmCell, Outcome, Requests, Router, TableCell
from planner.traffic import Draw

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

REQUESTS_OVER_MISSES = 25
"""A draw holds at least this many requests for each one that may miss."""
SHORTEST_DRAW_S = 60.0
MOST_REQUESTS_A_DRAW = 40_000
BEST_EFFORT_REQUESTS = 1_000
WARM_UP_FRACTION = 0.15
"""A draw starts with so much more traffic, which loads the replicas and is not scored: no queue is empty at first."""
LIMITS_A_DRAW = 20
"""A draw lasts at least so many times the longest wait that a workload allows: overload shows before it ends."""
LEAST_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Slice:
    """The requests of one demand whose uniform number lies in [low, high)."""

    demand: int
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CellKey:
    """One cell: the queue, its copies and its slices. Equal keys give equal outcomes."""

    queue: int
    copies: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellScore:
    """`offered[k, i]` and `attained[k, i]`: requests of draw k of workload `workloads[i]`."""

    workloads: tuple[int, ...]
    offered: IntArray
    attained: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadDraw:
    """One draw of a workload: its requests, the number each was given, the demand (length class) of each, and whether
    it counts (requests of the warm-up do not).
    """

    requests: Draw
    uniform: FloatArray
    demand: IntArray
    cached_tokens: IntArray
    scored: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRun:
    """A cell simulated on one draw: whose request each one was, whether it counts, and what it saw.

    `dropping`: requests that can no longer meet their deadline were dropped.
    """

    requests: Requests
    workload: IntArray
    scored: BoolArray
    outcome: Outcome
    dropping: bool


class Draws:
    """The draws of every workload, made when first asked for and then kept."""

    def __init__(
        self,
        workloads: Sequence[WorkloadDemand],
        demands: Sequence[Demand],
        *,
        seed: int,
        count: int,
        duration_s: float | None = None,
    ) -> None:
        self._workloads = workloads
        self._demands = demands
        self._seed = seed
        self._fixed_duration_s = duration_s
        self.count = count
        self._made: dict[tuple[int, int], WorkloadDraw] = {}

    def get(self, workload: int, draw: int) -> WorkloadDraw:
        """Draw number `draw` of a workload: the same for the same seed, whatever was asked before."""
        key = (workload, draw)
        if key not in self._made:
            self._made[key] = self._make(self._workloads[workload], draw)
        return self._made[key]

    def duration_s(self, workload: int) -> float:
        """Seconds of traffic in a draw; workloads of one model, which may share replicas, have the same."""
        if self._fixed_duration_s is not None:
            return self._fixed_duration_s
        model = self._workloads[workload].model
        together = [w for w in self._workloads if w.model == model]
        longest = max(max(_requests_needed(w) / w.rate_rps, SHORTEST_DRAW_S, _patient_s(w)) for w in together)
        return min(longest, MOST_REQUESTS_A_DRAW / max(w.rate_rps for w in together))

    def warm_up_s(self, workload: int) -> float:
        """Seconds before a draw that load the replicas: a mean request at its TPOT limit has come and gone by then.

        A given duration is a trace or a wish: it is scored whole.
        """
        if self._fixed_duration_s is not None:
            return 0.0
        model = self._workloads[workload].model
        stays = [_stay_s(w) for w in self._workloads if w.model == model]
        return max(WARM_UP_FRACTION * self.duration_s(workload), *stays)

    def slo(self, workload: int) -> SloLimits:
        """The limits that are scored: any wait that a draw is too short to tell from overload counts as a miss."""
        one = self._workloads[workload]
        length_s = self.warm_up_s(workload) + self.duration_s(workload)
        unbounded = isfinite(one.slo.tpot_s) and not isfinite(_patience_s(one))
        if one.best_effort or not (unbounded or LIMITS_A_DRAW * _patience_s(one) > length_s):
            return one.slo
        return replace(one.slo, ttft_s=min(one.slo.ttft_s, max(LEAST_PATIENCE_S, length_s / LIMITS_A_DRAW)))

    def _make(self, workload: WorkloadDemand, draw: int) -> WorkloadDraw:
        rng = np.random.default_rng([self._seed, workload.index, draw])
        warm_up_s = self.warm_up_s(workload.index)
        requests = workload.traffic.draw(warm_up_s + self.duration_s(workload.index), rng)
        demand = np.full(requests.arrival_s.size, -1, dtype=np.int64)
        for index in workload.classes:
            d = self._demands[index]
            demand[(requests.input_tokens > d.low_tokens) & (requests.input_tokens <= d.high_tokens)] = index
        # Whole tokens, and never the whole prompt: the last token is always computed.
        cached = np.minimum(
            np.floor(requests.input_tokens * workload.cached_fraction).astype(np.int64), requests.input_tokens - 1
        )
        return WorkloadDraw(
            requests=requests,
            uniform=rng.random(requests.arrival_s.size),
            demand=demand,
            cached_tokens=np.maximum(cached, 0),
            scored=requests.arrival_s >= warm_up_s,
        )


def _requests_needed(workload: WorkloadDemand) -> float:
    if workload.best_effort:
        return BEST_EFFORT_REQUESTS
    return REQUESTS_OVER_MISSES / (1.0 - workload.attainment)


def _patience_s(workload: WorkloadDemand) -> float:
    """The longest wait that the limits allow a request; infinite without a limit on it."""
    return min(workload.slo.ttft_s, workload.slo.e2e_s)


def _patient_s(workload: WorkloadDemand) -> float:
    patience_s = _patience_s(workload)
    return 0.0 if workload.best_effort or not isfinite(patience_s) else LIMITS_A_DRAW * patience_s


def _stay_s(workload: WorkloadDemand) -> float:
    """Seconds that a request of mean length decodes at its TPOT limit; 0 without one."""
    tpot_s = workload.slo.tpot_s
    return workload.traffic.lengths.mean_output * tpot_s if isfinite(tpot_s) else 0.0


class CellSimulator:
    """Simulates cells on all draws and remembers their scores."""

    def __init__(
        self,
        queues: Sequence[Queue],
        workloads: Sequence[WorkloadDemand],
        draws: Draws,
        workers: int,
        memory: CellMemory | None = None,
    ) -> None:
        self._queues = queues
        self._workloads = workloads
        self._workers = workers
        self._memory = memory
        self._counts: dict[tuple[CellKey, int], Counts] = {}
        self.draws = draws
        self.simulated_requests = 0

    def scores(self, keys: Sequence[CellKey], draws: int | None = None) -> list[CellScore]:
        """The scores of the cells on the first `draws` draws (default: all), in order; only new runs are simulated."""
        count = self.draws.count if draws is None else min(draws, self.draws.count)
        new = [(key, k) for key in dict.fromkeys(keys) for k in range(count) if (key, k) not in self._counts]
        prints = self._recall(new) if self._memory is not None else {}
        new = [job for job in new if job not in self._counts]
        self.run(new)
        if self._memory is not None:
            for job in new:
                self._memory.put(prints[job], self._counts[job])
        return [self._score(key, count) for key in keys]

    def _recall(self, jobs: Sequence[tuple[CellKey, int]]) -> dict[tuple[CellKey, int], bytes]:
        """The fingerprints of the runs; counts that an earlier plan left in the memory are taken over."""
        prints = {}
        for job in jobs:
            one = self._prepare(*job)
            limits = [(self._workloads[w].slo, self.draws.slo(w)) for w in self._workloads_in(job[0])]
            prints[job] = fingerprint(one.cell, one.requests, (one.workload, one.scored), repr(limits))
            known = self._memory.get(prints[job]) if self._memory is not None else None
            if known is not None:
                self._counts[job] = known
        return prints

    def run(self, jobs: Sequence[tuple[CellKey, int]]) -> list[CellRun]:
        """Simulate cells on single draws; the requests' own latencies come back, and the scores are remembered."""
        prepared = [self._prepare(key, draw) for key, draw in jobs]
        self.simulated_requests += sum(one.requests.arrival_s.size for one in prepared)
        outcomes = simulate_many([(one.cell, one.requests) for one in prepared], self._workers)
        runs = [
            CellRun(
                requests=one.requests,
                workload=one.workload,
                scored=one.scored,
                outcome=outcome,
                dropping=isinstance(one.cell, TableCell),
            )
            for one, outcome in zip(prepared, outcomes, strict=True)
        ]
        for job, run in zip(jobs, runs, strict=True):
            if job not in self._counts:
                self._counts[job] = self._count(job[0], run)
        return runs

    def attained(self, run: CellRun) -> BoolArray:
        """Which requests of a run met all the limits of their own workload."""
        met = np.zeros(run.workload.size, dtype=bool)
        for index in np.unique(run.workload).tolist():
            mine = run.workload == index
            # A latency table drops what is late, so that overload shows at once; and it has no TTFT to hold down.
            slo = self._workloads[index].slo if run.dropping else self.draws.slo(index)
            met[mine] = attained(run.outcome, slo)[mine]
        return met

    def _workloads_in(self, key: CellKey) -> tuple[int, ...]:
        return tuple(sorted({self._workload_of(s.demand) for s in key.slices}))

    def _count(self, key: CellKey, run: CellRun) -> tuple[list[int], list[int]]:
        """(offered, attained) requests of each workload of the cell in one run."""
        held = self.attained(run)
        mine = [(run.workload == workload) & run.scored for workload in self._workloads_in(key)]
        return [int(np.count_nonzero(m)) for m in mine], [int(np.count_nonzero(held & m)) for m in mine]

    def _score(self, key: CellKey, count: int) -> CellScore:
        per_draw = [self._counts[key, k] for k in range(count)]
        return CellScore(
            workloads=self._workloads_in(key),
            offered=np.array([offered for offered, _ in per_draw], dtype=np.int64),
            attained=np.array([attained for _, attained in per_draw], dtype=np.int64),
        )

    def _workload_of(self, demand: int) -> int:
        return next(w.index for w in self._workloads if demand in w.classes)

    def _prepare(self, key: CellKey, draw: int) -> "_Prepared":
        queue = self._queues[key.queue]
        parts = []
        for s in key.slices:
            one = self.draws.get(self._workload_of(s.demand), draw)
            parts.append((one, (one.demand == s.demand) & (one.uniform >= s.low) & (one.uniform < s.high)))
        order = np.argsort(np.concatenate([one.requests.arrival_s[mine] for one, mine in parts]), kind="stable")

        def merged(field: Callable[[WorkloadDraw], NDArray[Any]]) -> NDArray[Any]:
            return np.concatenate([field(one)[mine] for one, mine in parts])[order]

        owners = [self._workload_of(s.demand) for s in key.slices]
        # A request is dropped when it is too late for every workload of the cell.
        latest = max((self._workloads[w] for w in owners), key=lambda w: w.slo.e2e_s)
        return _Prepared(
            cell=simulated_cell(queue, key.copies, Router[latest.router.upper()], latest.slo),
            requests=Requests(
                arrival_s=merged(lambda one: one.requests.arrival_s),
                input_tokens=merged(lambda one: one.requests.input_tokens),
                output_tokens=merged(lambda one: one.requests.output_tokens),
                cached_tokens=merged(lambda one: one.cached_tokens),
            ),
            workload=np.repeat(owners, [int(np.count_nonzero(mine)) for _, mine in parts])[order],
            scored=merged(lambda one: one.scored),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What the simulator is given, and whose each request is."""

    cell: LlmCell | TableCell
    requests: Requests
    workload: IntArray
    scored: BoolArray


def simulated_cell(queue: Queue, copies: int, router: Router, slo: SloLimits) -> LlmCell | TableCell:
    """The cell as the simulator takes it."""
    serving = queue.template.serving
    if isinstance(serving, LlmServing):
        limits = serving.limits
        return LlmCell(
            table=serving.table,
            copies=copies,
            kv_blocks=max(1, limits.kv_tokens // serving.block_tokens),
            block_tokens=serving.block_tokens,
            max_num_seqs=limits.max_num_seqs,
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_model_len=limits.max_model_len,
            router=router,
            embed=limits.embed,
            dispatch=limits.dispatch,
        )
    assert isinstance(serving, LatencyServing), "a queue known only by its capacity cannot be simulated"
    return TableCell(
        latency_s=serving.table.stage_latency_s,
        batches=serving.table.batch_sizes,
        copies=copies,
        max_batch=serving.max_batch,
        fixed_overhead_s=serving.fixed_overhead_s,
        deadline_s=slo.e2e_s,
        router=router,
    )
