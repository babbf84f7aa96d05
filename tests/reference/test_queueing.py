"""Mean waits of textbook queues, which the simulator must give where its replicas are such queues."""

import heapq
from math import factorial

import numpy as np
import pytest

from planner.simulate import simulate_llm, simulate_table
from planner.simulate_types import FloatArray, LlmCell, Requests, TableCell
from tests.unit.test_simulate import TABLE

WITHIN = 0.03
STEP_S = 0.1  # of the table


@pytest.mark.parametrize("load", [0.5, 0.7, 0.85])
def test_mean_wait_of_m_d_1(load: float) -> None:
    rng = np.random.default_rng(7)
    arrival_s = np.cumsum(rng.exponential(1.0 / load, size=4_000_000))
    cell = TableCell(latency_s=np.array([[1.0]]), batches=np.array([1]), copies=1, max_batch=1)
    wait_s = simulate_table(cell, arrival_s).e2e_s.mean() - 1.0
    # Pollaczek and Khinchine: load · service / (2 (1 − load)).
    assert wait_s == pytest.approx(load / (2.0 * (1.0 - load)), rel=WITHIN)


def erlang_c(servers: int, load: float) -> float:
    """Probability that a customer of M/M/c waits; `load` a server."""
    offered = servers * load
    all_busy = offered**servers / factorial(servers) / (1.0 - load)
    return all_busy / (sum(offered**k / factorial(k) for k in range(servers)) + all_busy)


def waits_s(servers: int, arrival_s: FloatArray, service_s: FloatArray) -> FloatArray:
    """Waits of a first-come-first-served queue with equal servers, customer by customer (Kiefer and Wolfowitz)."""
    free_s = [0.0] * servers
    waits = []
    for arrival, service in zip(arrival_s.tolist(), service_s.tolist(), strict=True):
        start = max(arrival, free_s[0])
        heapq.heapreplace(free_s, start + service)
        waits.append(start - arrival)
    return np.array(waits)


@pytest.mark.parametrize(
    ("servers", "load", "mean_steps"), [(1, 0.6, 100), (2, 0.7, 100), (4, 0.75, 200), (16, 0.85, 800)]
)
def test_mean_wait_of_m_m_c(servers: int, load: float, mean_steps: int) -> None:
    """A replica with c seats and steps of one length is M/Geo/c, and close to M/M/c when a service is many steps.

    300,000 customers leave a sampling error of up to 5 %, most of which the recursion on the same customers takes away.
    """
    rng = np.random.default_rng(11)
    count = 300_000
    service_s = mean_steps * STEP_S
    output_tokens = rng.geometric(1.0 / mean_steps, size=count)
    requests = Requests(
        arrival_s=np.cumsum(rng.exponential(service_s / (servers * load), size=count)),
        input_tokens=np.ones(count, dtype=np.int64),
        output_tokens=output_tokens,
        cached_tokens=np.zeros(count, dtype=np.int64),
    )
    cell = LlmCell(
        table=TABLE,
        copies=1,
        kv_blocks=1_000_000,
        block_tokens=16,
        max_num_seqs=servers,
        max_num_batched_tokens=64,
        max_model_len=1_000_000,
    )
    wait_s = (simulate_llm(cell, requests).e2e_s - output_tokens * STEP_S).mean()
    control_s = waits_s(servers, requests.arrival_s, np.multiply(output_tokens, STEP_S, dtype=np.float64)).mean()
    expected_s = erlang_c(servers, load) * service_s / (servers * (1.0 - load))
    assert control_s == pytest.approx(expected_s, rel=3 * WITHIN)
    assert wait_s - control_s + expected_s == pytest.approx(expected_s, rel=WITHIN)
