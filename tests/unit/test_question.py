"""What is asked becomes a layout, and what had to be assumed is said."""

from dataclasses import replace
from typing import Any

import pytest

from planner.question import Question, drawn_lengths, resolve
from profiles.errors import ProfileError
from profiles.precision import KvDtype

DENSE = Question(model="llama-3.1-8b", gpu="h100-sxm-80gb", input_tokens=100, output_tokens=50, concurrency=8)
MIXED = replace(DENSE, model="minimax-m2.5", quantization="nvfp4", gpu="b200-sxm-180gb")
BLOCKS = "expert_up is cut to 192 a rank (tp 8, ep 1), no multiple of the 128 that share a scale"

RANKS: dict[str, tuple[Question, dict[str, Any], tuple[int, int], str]] = {
    "as asked": (MIXED, {"tp": 4}, (4, 1), ""),
    "experts over ranks": (MIXED, {"tp": 4, "ep": 4, "moe_tp": 1}, (4, 4), ""),
    "tp left at 1": (MIXED, {"tp": 1, "moe_tp": 4}, (4, 1), "tp 4: moe_tp 4 × ep 1 ranks hold the experts"),
    "both": (MIXED, {"tp": 4, "ep": 2, "moe_tp": 2}, (4, 2), ""),
    "attention ranks": (MIXED, {"tp": 2, "attention_dp": 2, "ep": 4}, (2, 4), ""),
    "experts cut over attention ranks": (
        MIXED,
        {"tp": 2, "attention_dp": 2, "moe_tp": 4},
        (2, 4),
        "experts cut over attention ranks are not modelled",
    ),
    "a cut through blocks": (MIXED, {"tp": 8, "quantization": "fp8_block"}, (8, 8), BLOCKS),
    "a dense model": (DENSE, {"tp": 2, "moe_tp": 4}, (2, 1), ""),
}


@pytest.mark.parametrize("name", sorted(RANKS))
def test_ranks(name: str) -> None:
    question, fields, ranks, said = RANKS[name]
    found = resolve(replace(question, **fields))
    assert (found.layout.tp, found.layout.ep) == ranks
    assert bool(found.assumptions) == bool(said)
    assert said in "".join(found.assumptions)


@pytest.mark.parametrize(
    ("gpu", "quantization", "asked", "taken"),
    [
        ("h100-sxm-80gb", "fp8", None, KvDtype.BF16),
        ("b200-sxm-180gb", "bf16", None, KvDtype.BF16),
        ("b200-sxm-180gb", "fp8", None, KvDtype.FP8),
        ("b200-sxm-180gb", "nvfp4", None, KvDtype.FP8),
        ("b200-sxm-180gb", "int4", None, KvDtype.BF16),
        ("b200-sxm-180gb", "fp8", "bf16", KvDtype.BF16),
        ("v100-sxm-32gb", "fp16", None, KvDtype.FP16),
    ],
)
def test_the_kv_format_is_the_one_asked_for_else_the_engine_s(
    gpu: str, quantization: str, asked: str | None, taken: KvDtype
) -> None:
    found = resolve(replace(DENSE, gpu=gpu, quantization=quantization, kv_dtype=asked))
    assert found.layout.kv_dtype is taken


@pytest.mark.parametrize(("model", "taken"), [("gpt-oss-20b", "mxfp4"), ("llama-3.1-8b", "nvfp4")])
def test_fp4_is_the_model_s_own_kind_of_it(model: str, taken: str) -> None:
    found = resolve(replace(DENSE, model=model, gpu="b200-sxm-180gb", quantization="fp4"))
    assert found.layout.quantization == taken


def test_a_hugging_face_id_of_the_catalogue_is_a_name() -> None:
    assert resolve(replace(DENSE, model="moonshotai/Kimi-K2.5", gpu="b200-sxm-180gb")).model.name == "kimi-k2.5"
    with pytest.raises(ProfileError, match="nobody/nothing"):
        resolve(replace(DENSE, model="nobody/nothing"))


def test_lengths_are_uniform_between_the_fraction_and_the_label() -> None:
    inputs, outputs, _ = drawn_lengths(replace(DENSE, length_low_fraction=0.8))
    assert inputs.size == outputs.size == 80
    assert (inputs.min(), inputs.max()) >= (80, 95) and inputs.max() <= 100
    assert outputs.min() >= 40 and outputs.max() <= 50
    fixed, _, _ = drawn_lengths(DENSE)
    assert set(fixed.tolist()) == {100}
