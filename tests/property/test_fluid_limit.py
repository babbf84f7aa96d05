"""No schedule beats the fluid limit: requests served by one copy take at least their costs, on any step table.

Nothing here is sampled: the costs are those of the very requests that are simulated, so that one counterexample is one
too many.
"""

import numpy as np
import pytest

from planner import capacity_kernel as kernel
from planner.capacity import MixSamples, ReplicaLimits, request_costs_s
from planner.simulate import simulate_llm
from planner.simulate_types import LlmCell, Outcome, Requests
from profiles.evidence import Evidence, EvidenceShares
from profiles.step_table import Component, StepTable

BLOCK_TOKENS = 4
LONGEST = 600
CASES = 250


def rising(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    """Values that never fall: along a root, a line, a parabola or stairs, so that lines under them start anywhere."""
    x = np.arange(size, dtype=np.float64)
    shapes = (np.sqrt(x), x, x**2 / size, np.floor(x / 40) * 40, np.maximum(0.0, x - size / 3))
    return np.asarray(scale * (rng.choice([0.0, 10.0, 100.0]) + shapes[int(rng.integers(len(shapes)))]))


def table_of(rng: np.random.Generator) -> StepTable:
    """A table in which any part may be next to nothing, reaching beyond every step of the limits below."""
    attention = rising(rng, 16, 1e-5)[None, :] * np.linspace(1.0, 2.0, 11)[:, None]
    return StepTable(
        linear_s=rising(rng, 2100, 10.0 ** -rng.integers(4, 7)),
        decode_attention_s=attention,
        prefill_attention_s=rising(rng, 20, 10.0 ** -rng.integers(3, 6)),
        sampling_s=rising(rng, 40, 1e-7),
        overhead_s=float(rng.choice([1e-6, 1e-3, 0.01])),
        prefill_factor=float(rng.choice([0.7, 1.0, 1.3])),
        prefill_floor_s=float(rng.choice([0.0, 0.01])),
        stages=int(rng.choice([1, 1, 2, 3, 4])),
        send_s_per_token=0.0,
        front_end_request_s=float(rng.choice([0.0, 0.004])),
        front_end_input_token_s=float(rng.choice([0.0, 1e-5])),
        front_end_output_token_s=float(rng.choice([0.0, 1e-4])),
        client_s=0.0,
        schedule_lag_steps=int(rng.integers(0, 2)),
        component_evidence=tuple(EvidenceShares.of(Evidence.MODELLED, 1.0) for _ in Component),
    )


def limits_of(rng: np.random.Generator) -> ReplicaLimits:
    return ReplicaLimits(
        max_num_seqs=int(rng.choice([1, 2, 8, 64, 1024])),
        max_num_batched_tokens=int(rng.choice([1024, 2000])),
        max_model_len=LONGEST,
        kv_tokens=BLOCK_TOKENS * int(rng.choice([150, 200, 1000, 100_000])),
        embed=bool(rng.random() < 0.15),
    )


def requests_of(rng: np.random.Generator, span_s: float) -> Requests:
    """Requests of few or many tokens, one-token answers among them, all at once or over a while."""
    count = int(rng.integers(40, 250))
    inputs = rng.integers(1, int(rng.choice([3, 60, 300])), size=count)
    outputs = rng.integers(1, int(rng.choice([2, 3, 30, 200])), size=count)
    cached = np.floor(inputs * rng.choice([0.0, 0.0, 0.9]) * rng.random(count)).astype(np.int64)
    return Requests(
        arrival_s=np.sort(rng.uniform(0.0, span_s, size=count)),
        input_tokens=inputs,
        output_tokens=outputs,
        cached_tokens=cached,
    )


def samples_of(requests: Requests, attaining: np.ndarray, tpot_s: float) -> MixSamples:
    """The requests that attain, as the mix whose limit is asked for."""
    matrix = np.full((int(attaining.sum()), 7), np.inf)
    matrix[:, kernel.IN_TOKENS] = requests.input_tokens[attaining]
    matrix[:, kernel.COMPUTED_TOKENS] = (requests.input_tokens - requests.cached_tokens)[attaining]
    matrix[:, kernel.OUT_TOKENS] = requests.output_tokens[attaining]
    matrix[:, kernel.TPOT_SLO_S] = tpot_s
    matrix[:, kernel.GROUP] = 0
    return MixSamples(matrix=matrix, targets=np.array([1.0]), arrival_cv=1.0)


def cell_of(table: StepTable, limits: ReplicaLimits) -> LlmCell:
    return LlmCell(
        table=table,
        copies=1,
        kv_blocks=limits.kv_tokens // BLOCK_TOKENS,
        block_tokens=BLOCK_TOKENS,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        max_model_len=limits.max_model_len,
        embed=limits.embed,
    )


def within(outcome: Outcome, tpot_s: float) -> np.ndarray:
    return np.asarray(outcome.served & ~(np.nan_to_num(outcome.tpot_s) > tpot_s))


@pytest.mark.parametrize("seed", range(CASES))
def test_requests_that_attain_take_no_less_time_than_their_costs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, limits = table_of(rng), limits_of(rng)
    requests = requests_of(rng, float(rng.choice([0.0, 0.5])))
    outcome = simulate_llm(cell_of(table, limits), requests)
    tpot_s = float(rng.choice([np.inf, np.nanmax([np.nanquantile(np.nan_to_num(outcome.tpot_s), 0.6), 1e-9])]))
    attaining = within(outcome, tpot_s)
    samples = samples_of(requests, attaining, tpot_s)
    for number, costs in enumerate(request_costs_s(table, limits, samples)):
        assert costs.sum() <= outcome.makespan_s * (1 + 1e-9), f"way {number} of counting"
