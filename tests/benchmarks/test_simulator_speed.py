"""How fast cells are simulated: requests a second on one core, beside plain Python, and the cold start."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from math import log, sqrt
from pathlib import Path

import numpy as np

from planner import simulate_reference
from planner.simulate import simulate_llm, simulate_many
from planner.simulate_types import IntArray, LlmCell, Requests, Router
from profiles.evidence import Evidence, EvidenceShares
from profiles.step_table import Component, StepTable

SATURATION_RPS = 14.7
LEAST_RPS = 200_000.0
TABLE = StepTable(
    linear_s=8e-3 + 40e-6 * np.arange(2049.0),
    decode_attention_s=25e-9 * np.tile(2.0 ** np.arange(24), (10, 1)),
    prefill_attention_s=25e-9 * 64.0 * np.arange(1000.0),
    sampling_s=np.zeros(2),
    overhead_s=0.0,
    prefill_factor=1.0,
    prefill_floor_s=0.0,
    stages=1,
    send_s_per_token=0.0,
    front_end_request_s=0.0,
    front_end_input_token_s=0.0,
    front_end_output_token_s=0.0,
    client_s=0.0,
    schedule_lag_steps=0,
    component_evidence=tuple(EvidenceShares.of(Evidence.MODELLED, 1.0) for _ in Component),
)
CELL = LlmCell(
    table=TABLE,
    copies=10,
    kv_blocks=40_000,
    block_tokens=16,
    max_num_seqs=256,
    max_num_batched_tokens=2048,
    max_model_len=131_072,
)


def lognormal_tokens(rng: np.random.Generator, mean: float, count: int) -> IntArray:
    """Lengths with a coefficient of variation of 1."""
    sigma = sqrt(log(2.0))
    return np.maximum(1, np.rint(rng.lognormal(log(mean) - sigma**2 / 2, sigma, size=count))).astype(np.int64)


def traffic(seed: int, count: int, rate_rps: float) -> Requests:
    """Poisson arrivals, 1000 tokens in and 250 out."""
    rng = np.random.default_rng(seed)
    return Requests(
        arrival_s=np.cumsum(rng.exponential(1.0 / rate_rps, size=count)),
        input_tokens=lognormal_tokens(rng, 1000.0, count),
        output_tokens=lognormal_tokens(rng, 250.0, count),
        cached_tokens=np.zeros(count, dtype=np.int64),
    )


def rate_rps(cell: LlmCell, requests: Requests) -> float:
    """Best of three runs, requests simulated a second."""
    simulate_llm(cell, requests)
    best_s = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        simulate_llm(cell, requests)
        best_s = min(best_s, time.perf_counter() - start)
    return requests.arrival_s.size / best_s


def test_requests_a_second_at_70_percent_load() -> None:
    many = traffic(1, 100_000, 0.7 * SATURATION_RPS * CELL.copies)
    rates = {router.name: rate_rps(replace(CELL, router=router), many) for router in Router}
    few = replace(CELL, copies=1), traffic(2, 300, 0.7 * SATURATION_RPS)
    start = time.perf_counter()
    simulate_reference.simulate(*few)
    slow_rps = few[1].arrival_s.size / (time.perf_counter() - start)
    for name, rate in rates.items():
        sys.stdout.write(f"\n{name}: {rate:,.0f} requests/s, {rate / slow_rps:,.0f} times the plain simulator")
    assert rates["ROUND_ROBIN"] >= LEAST_RPS
    assert rates["ROUND_ROBIN"] >= 100 * slow_rps


def test_cells_a_second() -> None:
    cells = 40
    jobs = [(replace(CELL, copies=4), traffic(i, 2000, 0.7 * SATURATION_RPS * 4)) for i in range(8 * cells)]
    simulate_many(jobs[:1], workers=1)
    taken = []
    for workers in (1, 2):
        start = time.perf_counter()
        outcomes = simulate_many(jobs, workers)
        taken.append(time.perf_counter() - start)
        assert all(o.served.all() for o in outcomes)
    sys.stdout.write(
        f"\n{cells / taken[0]:.0f} cells of 8 draws of 2,000 requests a second; two threads: {cells / taken[1]:.0f}"
    )


def test_cold_and_cached_start(tmp_path: Path) -> None:
    program = (
        "import time; t = time.perf_counter(); import tests.unit.test_simulate as u; "
        "from planner.simulate import simulate_llm; i = time.perf_counter(); "
        "simulate_llm(u.CELL, u.requests((0.0, 4, 2))); print(i - t, time.perf_counter() - i)"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first_call_s = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, check=True
        )
        import_s, call_s = map(float, done.stdout.split())
        first_call_s.append(call_s)
        sys.stdout.write(f"\nimport {import_s:.2f} s, first simulation {call_s:.2f} s")
    assert first_call_s[1] < 0.25 * first_call_s[0]
