"""The steps of a replica, and the few that stand for them."""

import numpy as np
import pytest

from planner.check.step_mix import MixStep, sampled, step_mix
from planner.simulate import simulate_llm
from planner.simulate_types import LlmCell, Requests
from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment, tabulate_step

CELL = LlmCell(
    table=tabulate_step(
        Deployment(
            model=load_model("qwen3-0.6b"),
            gpu=load_gpu("h200-sxm-141gb"),
            engine=load_engine("vllm"),
            quantization=Quantization.BF16,
            kv_dtype=KvDtype.BF16,
        )
    ),
    copies=1,
    kv_blocks=1000,
    block_tokens=16,
    max_num_seqs=4,
    max_num_batched_tokens=64,
    max_model_len=512,
)


def requests(count: int = 12) -> Requests:
    """Prompts of 100 tokens, answers of 20, close together."""
    return Requests(
        arrival_s=0.02 * np.arange(count, dtype=np.float64),
        input_tokens=np.full(count, 100),
        output_tokens=np.full(count, 20),
        cached_tokens=np.zeros(count, dtype=np.int64),
    )


def test_the_mix_is_what_the_simulator_runs() -> None:
    mix, outcome = step_mix(CELL, requests()), simulate_llm(CELL, requests())
    assert len(mix) == outcome.steps
    assert sum(step.predicted_s for step in mix) == pytest.approx(outcome.busy_s)
    assert sum(t for step in mix for _, t in step.chunks) == 12 * 100, "every prompt token once"
    assert sum(step.decodes for step in mix) == 12 * 19, "every token but the first comes from a decode"
    assert max(step.tokens for step in mix) <= 64
    assert any(done for step in mix for done, _ in step.chunks), "a prompt of 100 takes two steps of 64"


def test_few_steps_stand_for_all() -> None:
    mix = step_mix(CELL, requests(40))
    few = sampled(mix, 12)
    assert sum(step.weight_fraction for step in few) == pytest.approx(1.0)
    assert {bool(step.chunks) for step in few} == {True, False}
    mean_s = sum(step.predicted_s for step in mix) / len(mix)
    assert sum(s.weight_fraction * s.predicted_s for s in few) == pytest.approx(mean_s, rel=0.05)


def test_a_rare_kind_of_step_is_kept() -> None:
    decode = MixStep(decodes=1, kv_tokens=9, chunks=(), samples=1, predicted_s=1e-3)
    prompt = MixStep(decodes=0, kv_tokens=0, chunks=((0, 50),), samples=1, predicted_s=9e-3)
    few = sampled([decode] * 99 + [prompt], 4)
    assert [step.weight_fraction for step in few if step.chunks] == [pytest.approx(0.01)]
    assert len(few) == 5
