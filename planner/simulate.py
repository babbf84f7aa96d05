"""Simulation of cells: thin wrappers that hand arrays to the compiled event loops.

Importing this module imports numba; nothing that the command line imports at its start does.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from math import ceil, inf

import numpy as np

from planner import simulate_kernel as kernel
from planner import simulate_table_kernel as table_kernel
from planner.simulate_types import (
    DEADLINE_TOLERANCE_S,
    ClosedLoop,
    FloatArray,
    IntArray,
    LlmCell,
    Outcome,
    Requests,
    Router,
    TableCell,
)
from profiles.step_table import Component, StepTable

OPEN_LOOP_STARTS = np.zeros(0)


class Start(StrEnum):
    """How the clients of a closed loop start: all at time 0, or spread evenly over one mean request time."""

    BURST = "burst"
    STEADY = "steady"


def simulate_llm(cell: LlmCell, requests: Requests, horizon_s: float = inf) -> Outcome:
    """The requests served by the cell; those not finished by `horizon_s` are misses, later arrivals are not sent."""
    return _run_llm(cell, requests, OPEN_LOOP_STARTS, horizon_s)


def simulate_closed_loop(cell: LlmCell, loop: ClosedLoop, horizon_s: float = inf) -> Outcome:
    """The requests of a closed loop served by the cell, in the order in which they were sent."""
    return _run_llm(cell, loop, loop.start_s, horizon_s)


def simulate_llm_closed_loop(
    cell: LlmCell, input_tokens: IntArray, output_tokens: IntArray, concurrency: int, start: Start = Start.BURST
) -> Outcome:
    """The closed loop of a benchmark client: `concurrency` clients share one list of requests, no prefix hits.

    STEADY first runs the burst to learn the mean time of a request, then spreads the clients' starts evenly over it.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency}")
    burst = ClosedLoop(
        start_s=np.zeros(concurrency),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=np.zeros(input_tokens.size, dtype=np.int64),
    )
    outcome = simulate_closed_loop(cell, burst)
    if start is Start.BURST or not outcome.served.any():
        return outcome
    mean_s = float(outcome.e2e_s[outcome.served].mean())
    starts_s = np.arange(concurrency, dtype=np.float64) * (mean_s / concurrency)
    return simulate_closed_loop(
        cell,
        ClosedLoop(
            start_s=starts_s,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cached_tokens=burst.cached_tokens,
        ),
    )


def simulate_table(cell: TableCell, arrival_s: FloatArray, horizon_s: float = inf) -> Outcome:
    """Requests at `arrival_s` (in order) served by a latency-table cell; dropped and unfinished ones are misses."""
    if arrival_s.size and (arrival_s[0] < 0 or np.any(np.diff(arrival_s) < 0)):
        raise ValueError("arrivals must start at 0 or later and be in order")
    arrival_s = _floats(arrival_s)
    e2e_s = np.full(arrival_s.size, np.nan)
    replica = np.full(arrival_s.size, -1, dtype=np.int64)
    busy_s, steps = table_kernel.simulate_table(
        _floats(cell.latency_s),
        _integers(cell.batches),
        cell.max_batch,
        float(cell.fixed_overhead_s),
        float(cell.deadline_s) + DEADLINE_TOLERANCE_S,
        cell.router is Router.LEAST_LOADED,
        arrival_s,
        e2e_s,
        replica,
        cell.copies,
        float(horizon_s),
    )
    nothing = np.full(arrival_s.size, np.nan)
    return Outcome(
        arrival_s=np.where(arrival_s <= horizon_s, arrival_s, np.inf),
        ttft_s=nothing,
        e2e_s=e2e_s,
        tpot_s=nothing,
        served=~np.isnan(e2e_s),
        replica=replica,
        request_preemptions=np.zeros(arrival_s.size, dtype=np.int64),
        component_s=np.zeros(len(Component)),
        busy_s=busy_s,
        steps=steps,
        kv_peak_fraction=0.0,
    )


def simulate_many(
    jobs: Sequence[tuple[LlmCell | TableCell, Requests]], workers: int, horizon_s: float = inf
) -> list[Outcome]:
    """The outcomes of the jobs, in their order; `workers` threads run side by side (the loops hold no lock)."""

    def run(job: tuple[LlmCell | TableCell, Requests]) -> Outcome:
        cell, requests = job
        if isinstance(cell, TableCell):
            return simulate_table(cell, requests.arrival_s, horizon_s)
        return simulate_llm(cell, requests, horizon_s)

    if workers <= 1:
        return [run(job) for job in jobs]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, jobs))


def _run_llm(cell: LlmCell, work: Requests | ClosedLoop, start_s: FloatArray, horizon_s: float) -> Outcome:
    count = work.input_tokens.size
    requests = np.zeros((count, kernel.REQUEST_INTS), dtype=np.int64)
    requests[:, kernel.INPUT] = work.input_tokens
    requests[:, kernel.OUTPUT] = 1 if cell.embed else work.output_tokens
    requests[:, kernel.CACHED] = work.cached_tokens
    requests[:, [kernel.NEXT, kernel.REPLICA, kernel.PENDING]] = -1
    times = np.full((count, kernel.REQUEST_TIMES), np.nan)
    times[:, kernel.ARRIVAL] = work.arrival_s if isinstance(work, Requests) else np.inf
    totals = kernel.simulate_llm(
        _settings(cell),
        _scalars(cell.table, cell.embed),
        _tables(cell.table),
        requests,
        times,
        _floats(start_s),
        cell.copies,
        float(horizon_s),
    )
    if totals[kernel.FAILED]:
        raise RuntimeError("a replica with waiting requests and nothing in flight found nothing to schedule")
    return _outcome(cell, requests, times, totals, horizon_s)


def _outcome(cell: LlmCell, requests: IntArray, times: FloatArray, totals: FloatArray, horizon_s: float) -> Outcome:
    e2e_s = times[:, kernel.E2E].copy()
    served = ~np.isnan(e2e_s)
    ttft_s = np.where(served, times[:, kernel.TTFT], np.nan)
    gaps = requests[:, kernel.OUTPUT] - 1
    tpot_s = np.full(e2e_s.size, np.nan)
    np.divide(e2e_s - ttft_s, gaps, out=tpot_s, where=gaps > 0)
    arrival_s = times[:, kernel.ARRIVAL]
    return Outcome(
        arrival_s=np.where(arrival_s <= horizon_s, arrival_s, np.inf),
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_s=tpot_s,
        served=served,
        replica=requests[:, kernel.REPLICA].copy(),
        request_preemptions=requests[:, kernel.PREEMPTED].copy(),
        component_s=totals[: len(Component)].copy(),
        busy_s=float(totals[kernel.BUSY]),
        steps=int(totals[kernel.STEPS]),
        kv_peak_fraction=float(totals[kernel.PEAK]) / cell.kv_blocks,
    )


def _settings(cell: LlmCell) -> IntArray:
    # In the order of the settings' positions in the kernel.
    return np.array(
        [
            cell.kv_blocks,
            cell.block_tokens,
            cell.max_num_seqs,
            cell.max_num_batched_tokens,
            int(cell.embed),
            cell.table.stages,
            cell.table.schedule_lag_steps,
            cell.max_model_len,
            int(cell.router),
            int(cell.dispatch.whole_prompts),
            int(cell.dispatch.prompts_apart),
            int(cell.dispatch.reserves_output),
            cell.dispatch.poll_steps,
            cell.dispatch.wait_steps,
            ceil(cell.dispatch.wait_fraction * cell.max_num_batched_tokens),
        ],
        dtype=np.int64,
    )


def _scalars(table: StepTable, embed: bool) -> FloatArray:
    # In the order of the scalars' positions in the kernel.
    return np.array(
        [
            table.overhead_s,
            table.prefill_factor,
            table.prefill_floor_s,
            table.send_s_per_token,
            table.front_end_request_s,
            table.front_end_input_token_s,
            0.0 if embed else table.front_end_output_token_s,
            table.client_s,
        ]
    )


def _tables(table: StepTable) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return (
        _floats(table.linear_s),
        _floats(table.decode_attention_s),
        _floats(table.prefill_attention_s),
        _floats(table.sampling_s),
    )


def _floats(values: FloatArray) -> FloatArray:
    # A copy: read-only or strided arrays would be another type to numba, and another compilation.
    return np.array(values, dtype=np.float64, order="C")


def _integers(values: IntArray) -> IntArray:
    return np.array(values, dtype=np.int64, order="C")
