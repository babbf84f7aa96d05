"""The compiled simulator gives what the plain Python one gives, in every field of the outcome."""

from dataclasses import fields
from math import inf

import numpy as np
import pytest

from planner import simulate_reference, simulate_table_reference
from planner.simulate import simulate_closed_loop, simulate_llm, simulate_table
from planner.simulate_types import ClosedLoop, Dispatch, FloatArray, LlmCell, Outcome, Requests, Router, TableCell
from profiles.evidence import Evidence, EvidenceShares
from profiles.step_table import Component, StepTable

TOLERANCE_S = 1e-9


def generated_table(rng: np.random.Generator) -> StepTable:
    batches = 2.0 ** np.arange(int(rng.integers(2, 8)))
    kv = 2.0 ** np.arange(int(rng.integers(2, 16)))
    return StepTable(
        linear_s=0.002 + np.cumsum(rng.uniform(0.0, 1e-4, size=int(rng.integers(2, 400)))),
        decode_attention_s=np.cumsum(np.cumsum(rng.uniform(0.0, 3e-5, (batches.size, kv.size)), axis=0), axis=1),
        prefill_attention_s=np.cumsum(rng.uniform(0.0, 1e-3, size=int(rng.integers(2, 20)))),
        sampling_s=np.cumsum(rng.uniform(0.0, 1e-5, size=int(rng.integers(2, 40)))),
        overhead_s=float(rng.uniform(0.0, 0.003)),
        prefill_factor=float(rng.uniform(0.8, 1.5)),
        prefill_floor_s=float(rng.choice([0.0, 0.02])),
        stages=int(rng.choice([1, 1, 2, 3, 4])),
        send_s_per_token=float(rng.choice([0.0, 1e-5])),
        front_end_request_s=float(rng.choice([0.0, 0.004])),
        front_end_input_token_s=float(rng.choice([0.0, 4e-6])),
        front_end_output_token_s=float(rng.choice([0.0, 2e-5])),
        client_s=float(rng.choice([0.0, 0.001])),
        schedule_lag_steps=int(rng.integers(0, 2)),
        component_evidence=tuple(EvidenceShares.of(Evidence.MODELLED, 1.0) for _ in Component),
    )


def generated_llm_cell(rng: np.random.Generator) -> LlmCell:
    seats = int(rng.integers(1, 24))
    longest = int(rng.choice([300, 600, 4096]))
    encoder = bool(rng.random() < 0.1)
    return LlmCell(
        table=generated_table(rng),
        copies=int(rng.choice([1, 1, 2, 3, 5])),
        kv_blocks=int(rng.choice([25, 40, 60, 120, 2000])),
        block_tokens=int(rng.choice([1, 7, 16, 16])),
        max_num_seqs=seats,
        max_num_batched_tokens=(longest if encoder else seats) + int(rng.choice([0, 8, 100, 2000])),
        max_model_len=longest,
        router=Router(int(rng.integers(0, 3))),
        embed=encoder or bool(rng.random() < 0.1),
        dispatch=generated_dispatch(rng, encoder),
    )


def generated_dispatch(rng: np.random.Generator, encoder: bool) -> Dispatch:
    """Half of the engines fill their steps as vLLM does."""
    if encoder or rng.random() < 0.5:
        return Dispatch(whole_prompts=encoder)
    reserves = bool(rng.random() < 0.4)
    return Dispatch(
        prompts_apart=bool(rng.random() < 0.5),
        whole_prompts=reserves and bool(rng.random() < 0.5),
        reserves_output=reserves,
        poll_steps=int(rng.choice([1, 1, 3, 10])),
        wait_steps=int(rng.choice([0, 4, 20])),
        wait_fraction=float(rng.choice([0.2, 1.0])),
    )


def generated_lengths(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    inputs = rng.integers(1, int(rng.choice([20, 200, 500])), size=count)
    return {
        "input_tokens": inputs,
        "output_tokens": rng.integers(1, int(rng.choice([2, 30, 150])), size=count),
        "cached_tokens": np.floor(inputs * rng.choice([0.0, 0.5, 0.999]) * rng.random(count)).astype(np.int64),
    }


def generated_requests(rng: np.random.Generator, count: int) -> Requests:
    arrival_s = np.cumsum(rng.exponential(float(rng.choice([0.002, 0.02, 0.2])), size=count))
    if rng.random() < 0.5:
        # Equal time stamps.
        arrival_s = np.round(arrival_s, 1)
    return Requests(arrival_s=arrival_s, **generated_lengths(rng, count))


def generated_loop(rng: np.random.Generator, count: int) -> ClosedLoop:
    starts: FloatArray = np.zeros(int(rng.integers(1, 20)))
    if rng.random() < 0.5:
        starts = np.sort(rng.uniform(0.0, 2.0, size=starts.size))
    return ClosedLoop(start_s=starts, **generated_lengths(rng, count))


def assert_same(found: Outcome, expected: Outcome) -> None:
    for field in fields(Outcome):
        np.testing.assert_allclose(
            np.asarray(getattr(found, field.name), dtype=np.float64),
            np.asarray(getattr(expected, field.name), dtype=np.float64),
            rtol=1e-12 if field.name in ("component_s", "busy_s") else 0.0,
            atol=TOLERANCE_S,
            err_msg=field.name,
        )


def test_llm_cells_agree_and_the_cases_are_not_tame() -> None:
    seen = {
        "preempted": 0,
        "preempted in a pipeline": 0,
        "lag": 0,
        "closed": 0,
        "rejected": 0,
        "embed": 0,
        "whole prompts": 0,
        "prompts apart": 0,
        "reserved": 0,
        "polled": 0,
        "waited": 0,
        "horizon": 0,
    }
    routers = set()
    for seed in range(240):
        rng = np.random.default_rng(seed)
        cell = generated_llm_cell(rng)
        horizon_s = inf if rng.random() < 0.8 else 1.0
        if rng.random() < 0.4:
            loop = generated_loop(rng, 60)
            found, expected = (
                simulate_closed_loop(cell, loop, horizon_s),
                simulate_reference.simulate(cell, loop, horizon_s),
            )
            seen["closed"] += 1
        else:
            requests = generated_requests(rng, 60)
            found, expected = (
                simulate_llm(cell, requests, horizon_s),
                simulate_reference.simulate(cell, requests, horizon_s),
            )
        assert_same(found, expected)
        seen["preempted"] += found.preemptions > 0
        seen["preempted in a pipeline"] += found.preemptions > 0 and cell.table.stages > 1
        seen["lag"] += cell.table.schedule_lag_steps
        seen["embed"] += cell.embed
        dispatch = cell.dispatch
        seen["whole prompts"] += dispatch.whole_prompts
        seen["prompts apart"] += dispatch.prompts_apart
        seen["reserved"] += dispatch.reserves_output and found.kv_peak_fraction > 0.9
        seen["polled"] += dispatch.poll_steps > 1
        seen["waited"] += dispatch.wait_steps > 0 and not dispatch.prompts_apart
        seen["horizon"] += horizon_s < inf and not found.served.all()
        seen["rejected"] += bool(np.any((found.replica < 0) & np.isfinite(found.arrival_s)))
        routers.add(cell.router)
    assert min(seen.values()) >= 5, seen
    assert routers == set(Router)


@pytest.mark.parametrize("router", [Router.ROUND_ROBIN, Router.LEAST_LOADED])
def test_table_cells_agree(router: Router) -> None:
    dropped = 0
    for seed in range(50):
        rng = np.random.default_rng([seed, int(router)])
        batches = np.cumsum(rng.integers(1, 4, size=int(rng.integers(1, 6))))
        stages = int(rng.integers(1, 4))
        cell = TableCell(
            latency_s=rng.uniform(0.01, 0.1) + 0.01 * batches[:, None] * rng.uniform(0.2, 1.0, stages),
            batches=batches,
            copies=int(rng.integers(1, 5)),
            max_batch=int(rng.integers(1, 10)),
            fixed_overhead_s=float(rng.choice([0.0, 0.004])),
            deadline_s=float(rng.choice([inf, 0.2, 0.5])),
            router=router,
        )
        arrival_s = np.cumsum(rng.exponential(float(rng.choice([0.005, 0.05])), size=200))
        if rng.random() < 0.5:
            arrival_s = np.round(arrival_s, 1)
        horizon_s = inf if rng.random() < 0.8 else float(arrival_s[100])
        found = simulate_table(cell, arrival_s, horizon_s)
        assert_same(found, simulate_table_reference.Simulation(cell, arrival_s, horizon_s).run())
        dropped += int(np.count_nonzero(~found.served))
    assert dropped > 0
