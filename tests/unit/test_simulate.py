"""Steps counted by hand: every step of the table used here takes 0.1 s on a stage, whatever is in it."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from planner.simulate import Start, simulate_llm, simulate_llm_closed_loop, simulate_many, simulate_table
from planner.simulate_types import Dispatch, LlmCell, Outcome, Requests, Router, TableCell
from profiles.evidence import Evidence, EvidenceShares
from profiles.step_table import Component, StepTable

TABLE = StepTable(
    linear_s=np.zeros(2),
    decode_attention_s=np.zeros((2, 2)),
    prefill_attention_s=np.zeros(2),
    sampling_s=np.zeros(2),
    overhead_s=0.1,
    prefill_factor=1.0,
    prefill_floor_s=0.0,
    stages=1,
    send_s_per_token=0.0,
    front_end_request_s=0.0,
    front_end_input_token_s=0.0,
    front_end_output_token_s=0.0,
    client_s=0.0,
    schedule_lag_steps=0,
    component_evidence=tuple(EvidenceShares.of(Evidence.FITTED, 1.0) for _ in Component),
)
CELL = LlmCell(
    table=TABLE,
    copies=1,
    kv_blocks=100,
    block_tokens=4,
    max_num_seqs=4,
    max_num_batched_tokens=64,
    max_model_len=300,
)


def requests(*rows: tuple[float, int, int]) -> Requests:
    """Requests from rows of (arrival, input, output)."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    lengths = columns.astype(np.int64)
    return Requests(
        arrival_s=columns[:, 0],
        input_tokens=lengths[:, 1],
        output_tokens=lengths[:, 2],
        cached_tokens=np.zeros(len(rows), dtype=np.int64),
    )


def with_table(**changes: float) -> LlmCell:
    return replace(CELL, table=replace(TABLE, **changes))  # type: ignore[arg-type]


def test_one_request_takes_a_step_a_token() -> None:
    outcome = simulate_llm(CELL, requests((1.0, 10, 3)))
    assert outcome.ttft_s == pytest.approx([0.1])
    assert outcome.e2e_s == pytest.approx([0.3])
    assert outcome.tpot_s == pytest.approx([0.1])
    assert (outcome.steps, outcome.preemptions) == (3, 0)
    assert outcome.makespan_s == pytest.approx(1.3)
    assert outcome.component_s == pytest.approx([0, 0, 0, 0, 0.3])
    assert outcome.kv_peak_fraction == pytest.approx(0.03)


def test_front_end_is_serial_and_client_time_counts_in_both_latencies() -> None:
    cell = with_table(front_end_request_s=0.01, front_end_input_token_s=0.001, client_s=0.002)
    outcome = simulate_llm(cell, requests((0.0, 10, 1), (0.0, 30, 1)))
    # Visible at 0.02 and 0.06; the second one waits for the step that ends at 0.12.
    assert outcome.ttft_s == pytest.approx([0.122, 0.222])
    assert outcome.e2e_s == pytest.approx([0.122, 0.222])
    assert np.isnan(outcome.tpot_s).all()


@pytest.mark.parametrize(
    ("lag", "arrival_s", "ttft_s"), [(0, 0.05, 0.15), (1, 0.05, 0.25), (0, 0.1, 0.1), (1, 0.1, 0.2)]
)
def test_asynchronous_scheduling_costs_a_step_when_busy(lag: int, arrival_s: float, ttft_s: float) -> None:
    outcome = simulate_llm(with_table(schedule_lag_steps=lag), requests((0.0, 4, 10), (arrival_s, 4, 1)))
    assert outcome.ttft_s == pytest.approx([0.1, ttft_s])


def test_asynchronous_scheduling_costs_nothing_when_idle() -> None:
    outcome = simulate_llm(with_table(schedule_lag_steps=1), requests((0.0, 4, 1), (0.05, 4, 1), (5.0, 4, 1)))
    # The second one came while the only step ran: the step after it would be empty, and takes no time.
    assert outcome.ttft_s == pytest.approx([0.1, 0.15, 0.1])


def test_pipeline_overlaps_requests_and_chunks_of_a_prompt() -> None:
    cell = with_table(stages=2, send_s_per_token=0.001)
    outcome = simulate_llm(cell, requests((0.0, 10, 2), (0.05, 20, 1)))
    # 2 · 0.1 + 10 · 0.001; the other prompt enters when the first stage is free, at 0.1, and leaves at 0.32.
    assert outcome.ttft_s == pytest.approx([0.21, 0.1 + 0.22 - 0.05])
    # The decode is through the first stage at 0.31 and waits there: the second one is busy until 0.32.
    assert outcome.e2e_s[0] == pytest.approx(0.42)
    chunked = replace(with_table(stages=2), max_num_batched_tokens=10)
    assert simulate_llm(chunked, requests((0.0, 30, 1))).ttft_s == pytest.approx([0.4])


def test_a_preempted_request_keeps_its_tokens_and_is_computed_again() -> None:
    cell = replace(CELL, kv_blocks=5)
    outcome = simulate_llm(cell, requests((0.0, 8, 5), (0.0, 8, 5)))
    # Step 2 wants a third block for both and there are five: the second one goes, and comes back when the first ended.
    assert outcome.ttft_s == pytest.approx([0.1, 0.1])
    assert outcome.e2e_s == pytest.approx([0.5, 0.9])
    assert list(outcome.request_preemptions) == [0, 1]
    assert outcome.kv_peak_fraction == pytest.approx(0.8)


def test_token_budget_cuts_prompts_and_prefix_hits_need_blocks_but_no_tokens() -> None:
    cell = replace(CELL, max_num_batched_tokens=16)
    outcome = simulate_llm(cell, requests((0.0, 40, 1), (0.0, 4, 1)))
    # 16 + 16 + 8 tokens; the other prompt fits beside the last chunk.
    assert outcome.ttft_s == pytest.approx([0.3, 0.3])
    cached = replace(requests((0.0, 40, 1)), cached_tokens=np.array([39]))
    outcome = simulate_llm(cell, cached)
    assert outcome.ttft_s == pytest.approx([0.1])
    assert outcome.kv_peak_fraction == pytest.approx(0.1)


def test_step_parts_follow_the_table() -> None:
    table = replace(
        TABLE,
        linear_s=0.001 * np.arange(3.0),
        decode_attention_s=np.outer([1.0, 2.0], [0.01, 0.02]),
        prefill_attention_s=np.array([0.0, 0.064]),
        sampling_s=np.array([0.0, 0.005]),
        prefill_factor=2.0,
    )
    outcome = simulate_llm(replace(CELL, table=table), requests((0.0, 10, 2)))
    # Prefill: 2 · 10 tokens linear, 2 · 10 ms attention; decode: one token, one sequence of 11 KV tokens.
    assert outcome.component_s == pytest.approx([0.02 + 0.001, 0.11, 0.02, 0.01, 0.2])
    assert outcome.component_s.sum() == pytest.approx(outcome.busy_s)
    floored = simulate_llm(replace(CELL, table=replace(table, prefill_floor_s=0.5)), requests((0.0, 10, 1)))
    assert floored.ttft_s == pytest.approx([0.5])
    assert floored.component_s == pytest.approx([0.02, 0.0, 0.02, 0.005, 0.455])


def test_requests_that_never_fit_are_rejected_and_take_no_turn() -> None:
    cell = replace(CELL, copies=2, kv_blocks=8)
    outcome = simulate_llm(cell, requests((0.0, 4, 1), (0.0, 200, 200), (0.0, 30, 4), (0.0, 4, 1), (0.0, 30, 3)))
    assert list(outcome.replica) == [0, -1, -1, 1, 0]
    assert list(outcome.served) == [True, False, False, True, True]
    assert np.isnan(outcome.e2e_s[1])


def test_embedding_models_only_read() -> None:
    outcome = simulate_llm(replace(CELL, embed=True), requests((0.0, 300, 50), (0.0, 301, 1)))
    assert list(outcome.served) == [True, False]
    assert outcome.ttft_s[0] == outcome.e2e_s[0] == pytest.approx(0.5)
    assert outcome.steps == 5


def test_horizon_leaves_the_rest_unfinished() -> None:
    outcome = simulate_llm(CELL, requests((0.0, 4, 2), (0.0, 4, 9), (7.0, 4, 1)), horizon_s=0.45)
    assert list(outcome.served) == [True, False, False]
    assert list(outcome.arrival_s) == [0.0, 0.0, inf]


def test_routers_choose_by_what_they_see() -> None:
    work = requests((0.0, 4, 50), (0.0, 40, 2), (0.1, 4, 1), (0.35, 4, 1), (0.36, 4, 1))
    routed = {router: simulate_llm(replace(CELL, copies=2, router=router), work).replica for router in Router}
    assert list(routed[Router.ROUND_ROBIN]) == [0, 1, 0, 1, 0]
    # At 0.1 the two are even; at 0.35 replica 1 is empty, at 0.36 even again.
    assert list(routed[Router.LEAST_LOADED]) == [0, 1, 0, 1, 0]
    # The second request goes to the free replica and fills it: 10 blocks against 1.
    assert list(routed[Router.LEAST_KV]) == [0, 1, 0, 1, 1]


def test_closed_loop_keeps_its_clients_busy() -> None:
    lengths = np.full(6, 4), np.full(6, 3)
    burst = simulate_llm_closed_loop(CELL, *lengths, concurrency=2)
    assert burst.arrival_s == pytest.approx([0.0, 0.0, 0.3, 0.3, 0.6, 0.6])
    steady = simulate_llm_closed_loop(CELL, *lengths, concurrency=2, start=Start.STEADY)
    assert steady.arrival_s[:2] == pytest.approx([0.0, 0.15])
    assert steady.served.all()
    assert (
        max(np.count_nonzero((steady.arrival_s <= t) & (steady.arrival_s + steady.e2e_s > t)) for t in (0.2, 0.5)) == 2
    )


def test_table_cell_batches_drops_and_pipelines() -> None:
    cell = TableCell(
        latency_s=np.array([[0.1, 0.2], [0.15, 0.25]]),
        batches=np.array([1, 2]),
        copies=1,
        max_batch=2,
        fixed_overhead_s=0.01,
        deadline_s=0.6,
    )
    outcome = simulate_table(cell, np.array([0.0, 0.05, 0.06, 0.06, 0.07]))
    # Alone 0.31; then two together: in at 0.1, out of stage 1 at 0.25, stage 2 from 0.3 to 0.55. The fourth would start
    # at 0.25, but 0.55 + 0.2 + 0.01 − 0.06 is past the deadline of both that are left.
    assert outcome.e2e_s[:3] == pytest.approx([0.31, 0.51, 0.5])
    assert not outcome.served[3:].any()
    assert outcome.steps == 2
    patient = simulate_table(replace(cell, deadline_s=inf), np.array([0.0, 0.05, 0.06, 0.06, 0.07]))
    assert patient.served.all()


def test_a_small_batch_takes_as_long_as_the_smallest_measured() -> None:
    cell = TableCell(latency_s=np.array([[0.4], [0.5]]), batches=np.array([4, 8]), copies=1, max_batch=8)
    assert simulate_table(cell, np.zeros(3)).e2e_s == pytest.approx([0.4] * 3)
    assert simulate_table(cell, np.zeros(9)).e2e_s == pytest.approx([0.5] * 8 + [0.9])


def test_many_jobs_come_back_in_order_whatever_the_workers() -> None:
    table_cell = TableCell(latency_s=np.array([[0.4]]), batches=np.array([1]), copies=1, max_batch=1)
    jobs = [(CELL if i % 3 else table_cell, requests((0.0, 4 + i, 2 + i), (0.2, 4, 1 + i))) for i in range(12)]
    alone = simulate_many(jobs, workers=1)
    together = simulate_many(jobs, workers=2)
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.e2e_s, two.e2e_s)
    assert [o.e2e_s[0] for o in alone] == pytest.approx([0.1 * (2 + i) if i % 3 else 0.4 for i in range(12)])


def test_frozen_inputs_are_taken_and_left_alone() -> None:
    work = requests((0.0, 4, 2))
    for array in (work.arrival_s, work.input_tokens, TABLE.linear_s, TABLE.decode_attention_s):
        array.setflags(write=False)
    assert simulate_llm(CELL, work).served.all()


def test_no_requests_give_an_empty_outcome() -> None:
    outcome = simulate_llm(CELL, requests())
    assert (outcome.served.size, outcome.steps, outcome.makespan_s) == (0, 0, 0.0)


SECOND_COMES_LATER = ((0.0, 10, 10), (0.15, 10, 1))


def dispatched(dispatch: Dispatch, *rows: tuple[float, int, int], kv_blocks: int = 100) -> Outcome:
    return simulate_llm(replace(CELL, dispatch=dispatch, kv_blocks=kv_blocks), requests(*rows))


def test_prompts_apart_hold_up_the_decodes() -> None:
    mixed, apart = (dispatched(Dispatch(prompts_apart=it), *SECOND_COMES_LATER) for it in (False, True))
    assert mixed.ttft_s == pytest.approx([0.1, 0.15]) and apart.ttft_s == pytest.approx([0.1, 0.15])
    assert (mixed.e2e_s[0], apart.e2e_s[0]) == pytest.approx((1.0, 1.1)), "one step more"


def test_new_requests_are_looked_for_every_so_many_steps() -> None:
    # Looked for after the prompt's step, at 0.1, and three steps later, at 0.4.
    outcome = dispatched(Dispatch(poll_steps=3), *SECOND_COMES_LATER)
    assert outcome.ttft_s == pytest.approx([0.1, 0.35])
    alone = dispatched(Dispatch(poll_steps=30), (0.0, 10, 1), (1.0, 10, 1))
    assert alone.ttft_s == pytest.approx([0.1, 0.1]), "nothing runs, so it is looked for"


def test_prompts_wait_beside_decodes_until_there_are_enough_of_them() -> None:
    waited = dispatched(Dispatch(wait_steps=2), *SECOND_COMES_LATER)
    assert waited.ttft_s == pytest.approx([0.1, 0.35])
    enough = dispatched(Dispatch(wait_steps=2, wait_fraction=0.1), *SECOND_COMES_LATER)
    assert enough.ttft_s == pytest.approx([0.1, 0.15]), "11 tokens are more than 0.1 of 64"


def test_a_reserved_answer_is_not_preempted() -> None:
    rows = ((0.0, 4, 9), (0.0, 4, 9))
    assert dispatched(Dispatch(), *rows, kv_blocks=4).preemptions > 0
    outcome = dispatched(Dispatch(reserves_output=True), *rows, kv_blocks=4)
    assert outcome.preemptions == 0
    assert outcome.ttft_s == pytest.approx([0.1, 1.0]), "the second one starts when the first has ended"


def test_a_whole_prompt_that_no_step_holds_is_rejected() -> None:
    outcome = dispatched(Dispatch(whole_prompts=True, reserves_output=True), (0.0, 70, 2), (0.0, 60, 2))
    assert outcome.served.tolist() == [False, True] and outcome.replica[0] == -1
    with pytest.raises(ValueError, match="does not cut the prompts"):
        replace(CELL, dispatch=Dispatch(whole_prompts=True))
    with pytest.raises(ValueError, match="poll_steps"):
        Dispatch(poll_steps=0)
