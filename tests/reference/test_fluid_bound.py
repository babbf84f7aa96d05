"""The fluid limit is a limit: above it no long simulation reaches the target."""

from math import inf

import numpy as np
import pytest

from planner.cells import simulated_cell
from planner.mix_build import Market
from planner.pipeline import PlanOptions, prepare
from planner.progress import Progress
from planner.queues import LlmServing, Queue
from planner.score import attained
from planner.simulate import simulate_llm
from planner.simulate_types import LlmCell, Requests, Router
from tests.spec_fixtures import load, model, pool, spec, workload

OVER = 1.10
"""The limit is known up to twice the standard error of sampled request costs, which is a few per cent."""
REQUESTS = 4_000

SPECS = {
    "chat": spec(),
    "tight TPOT": spec(workloads=[workload(slo={"tpot_ms": 14, "ttft_ms": 2000, "attainment": 0.9})]),
    "no TPOT limit": spec(workloads=[workload(slo={"ttft_ms": 3000, "attainment": 0.95})]),
    "one token out": spec(
        workloads=[workload(tokens={"input": {"mean": 800, "cv": 0.8}, "output": {"mean": 1, "cv": 0.0}})]
    ),
    "long answers": spec(
        workloads=[workload(tokens={"input": {"mean": 50, "cv": 0.5}, "output": {"mean": 700, "cv": 0.6}})]
    ),
    "low attainment": spec(workloads=[workload(slo={"ttft_ms": 500, "attainment": 0.6})]),
    "embedding": spec(
        models=[model("small", "bge-m3")],
        workloads=[
            workload(
                tokens={"input": {"mean": 300, "cv": 0.7}, "output": {"mean": 1, "cv": 0.0}},
                slo={"e2e_ms": 400, "attainment": 0.9},
            )
        ],
    ),
    "pipeline": spec(
        pools=[pool(gpu="a10g-24gb")],
        models=[model("small", "llama-3.1-8b", parallelism={"tp": [1, 2], "pp": [2]})],
    ),
    "length classes": spec(workloads=[workload(length_classes=[300])]),
}


def market_of(name: str) -> Market:
    return prepare(load(SPECS[name]), PlanOptions(draws=2, workers=1), Progress()).market


def attained_at(market: Market, queue: Queue, rate_rps: float) -> float:
    """Attained share of requests of the queue's first workload class, sent at that rate to one copy."""
    rng = np.random.default_rng(7)
    demand = market.demands[queue.parts[0][0]]
    owner = market.workloads[demand.workload]
    lengths, _ = owner.traffic.lengths.restricted(demand.low_tokens, demand.high_tokens)
    inputs, outputs = lengths.sample(REQUESTS, rng)
    cell = simulated_cell(queue, 1, Router.ROUND_ROBIN, owner.slo)
    assert isinstance(cell, LlmCell)
    requests = Requests(
        arrival_s=np.cumsum(rng.exponential(1.0 / rate_rps, REQUESTS)),
        input_tokens=inputs,
        output_tokens=outputs,
        cached_tokens=np.zeros(REQUESTS, dtype=np.int64),
    )
    return float(np.mean(attained(simulate_llm(cell, requests), owner.slo)))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_above_the_limit_no_simulation_reaches_the_target(name: str) -> None:
    market = market_of(name)
    seen = 0
    for queue in market.queues:
        if not isinstance(queue.template.serving, LlmServing) or len(queue.parts) > 1 or queue.fluid_rps == inf:
            continue
        target = market.workloads[market.demands[queue.parts[0][0]].workload].attainment
        found = attained_at(market, queue, OVER * queue.fluid_rps)
        assert found < target + 2.0 * np.sqrt(target * (1 - target) / REQUESTS), (queue.id, found)
        # And it is no empty claim: far below the limit the queue serves.
        if queue.analytic_rps[-1] > 0:
            assert attained_at(market, queue, 0.3 * queue.analytic_rps[0]) >= target, queue.id
        seen += 1
    assert seen
