"""What each rank holds, and the layouts an engine refuses."""

import pytest

from profiles.layout import Layout, RefusalReason, layout_refusal, stage_weight_bytes, stages, vocabulary_rows
from profiles.models import load_model
from profiles.parameters import parameter_count
from profiles.precision import KvDtype, Quantization


def layout(quantization: Quantization = Quantization.BF16, tp: int = 1, pp: int = 1, ep: int = 1) -> Layout:
    return Layout(quantization=quantization, kv_dtype=KvDtype.BF16, tp=tp, pp=pp, ep=ep)


@pytest.mark.parametrize(
    ("pp", "sizes"), [(1, [61]), (2, [31, 30]), (4, [15, 15, 16, 15]), (8, [7, 7, 8, 8, 8, 8, 8, 7])]
)
def test_stages_are_cut_as_the_engine_cuts_them(pp: int, sizes: list[int]) -> None:
    cut = stages(load_model("deepseek-v3"), pp)
    assert [stage.layers for stage in cut] == sizes
    assert sum(stage.dense_layers for stage in cut) == 3 and cut[0].dense_layers == 3
    assert (cut[0].first, cut[-1].last) == (True, True)


def test_windowed_layers_are_spread_over_the_stages() -> None:
    model = load_model("gemma-3-27b")
    assert stages(model, 1)[0].global_layers == 10
    assert [stage.global_layers for stage in stages(model, 2)] == [5, 5]


def test_one_rank_holds_every_parameter() -> None:
    model = load_model("llama-3.1-8b")
    assert stage_weight_bytes(model, layout(), stages(model, 1)[0]) == 2 * parameter_count(model)


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b", "deepseek-v3"])
def test_stages_together_hold_every_parameter(name: str) -> None:
    model = load_model(name)
    together = sum(stage_weight_bytes(model, layout(pp=3), stage) for stage in stages(model, 3))
    assert together == pytest.approx(2 * parameter_count(model), rel=1e-6)


def test_a_tied_head_is_held_twice_over_stages() -> None:
    model = load_model("llama-3.2-1b")
    together = sum(stage_weight_bytes(model, layout(pp=2), stage) for stage in stages(model, 2))
    assert together - 2 * parameter_count(model) == pytest.approx(2 * model.vocab_size * model.hidden_size, rel=1e-3)


def test_ranks_split_matrices_and_replicate_the_rest() -> None:
    model = load_model("llama-3.1-70b")
    one, eight = (stage_weight_bytes(model, layout(tp=tp), stages(model, 1)[0]) for tp in (1, 8))
    assert one / 8 < eight < 1.001 * one / 8


def test_key_and_value_weights_are_replicated_beyond_the_kv_heads() -> None:
    model = load_model("qwen3-235b-a22b")
    at_4, at_8 = (stage_weight_bytes(model, layout(tp=tp, ep=tp), stages(model, 1)[0]) for tp in (4, 8))
    keys_and_values = 94 * 2 * 128 * 4096 * 2
    assert at_8 - keys_and_values == pytest.approx((at_4 - keys_and_values) / 2, rel=1e-3)


def test_experts_are_shared_out_or_split() -> None:
    model = load_model("qwen3-30b-a3b")
    shared, split = (stage_weight_bytes(model, layout(tp=4, ep=ep), stages(model, 1)[0]) for ep in (4, 1))
    assert shared == split
    more_groups = stage_weight_bytes(model, layout(tp=1, ep=8), stages(model, 1)[0])
    assert more_groups < stage_weight_bytes(model, layout(), stages(model, 1)[0]) / 3


def test_quantised_weights_keep_tables_and_routers_at_16_bit() -> None:
    model = load_model("llama-3.1-8b")
    tables = 2 * 2 * model.vocab_size * model.hidden_size
    whole = stage_weight_bytes(model, layout(), stages(model, 1)[0])
    fp8 = stage_weight_bytes(model, layout(Quantization.FP8), stages(model, 1)[0])
    assert fp8 == pytest.approx(tables + (whole - tables) / 2, rel=2e-3)


def test_vocabulary_rows_are_padded() -> None:
    model = load_model("llama-3.1-8b").model_copy(update={"vocab_size": 32_001})
    assert (vocabulary_rows(model, 1), vocabulary_rows(model, 8)) == (32_064, 4008)


@pytest.mark.parametrize(
    ("name", "chosen", "reason", "says"),
    [
        ("llama-3.1-8b", layout(tp=3), RefusalReason.HEADS, "32 attention heads"),
        ("qwen2.5-7b", layout(tp=7), RefusalReason.HEADS, "4 KV heads"),
        ("llama-3.2-1b", layout(pp=17), RefusalReason.LAYERS, "16 layers"),
        ("llama-3.1-8b", layout(ep=2), RefusalReason.EXPERTS, "has no experts"),
        ("llama-3.1-8b", layout(Quantization.MXFP4), RefusalReason.EXPERTS, "routed experts"),
        ("qwen3-30b-a3b", layout(tp=2, ep=3), RefusalReason.EXPERTS, "ep 3"),
        ("deepseek-v3", layout(tp=4, ep=6), RefusalReason.EXPERTS, "ep 6"),
        ("qwen3-30b-a3b", layout(Quantization.FP8_BLOCK, tp=4), RefusalReason.SHAPE, "192"),
        ("qwen3-4b", layout(Quantization.FP8_BLOCK, tp=8), RefusalReason.SHAPE, "1216"),
        ("qwen2.5-72b", layout(Quantization.AWQ, tp=8), RefusalReason.SHAPE, "3696"),
        ("minimax-m2.5", layout(Quantization.FP8_BLOCK, tp=8), RefusalReason.SHAPE, "192"),
    ],
)
def test_refusals(name: str, chosen: Layout, reason: RefusalReason, says: str) -> None:
    refusal = layout_refusal(load_model(name), chosen)
    assert refusal is not None and refusal.reason is reason
    assert says in refusal.sentence and refusal.sentence.endswith(".")


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("llama-3.1-8b", layout(tp=8)),
        ("qwen3-30b-a3b", layout(Quantization.FP8_BLOCK, tp=2)),
        ("qwen3-30b-a3b", layout(Quantization.FP8_BLOCK, tp=4, ep=2)),
        ("deepseek-v3", layout(Quantization.FP8_BLOCK, tp=8, ep=64)),
        ("gpt-oss-120b", layout(Quantization.MXFP4, tp=8)),
    ],
)
def test_layouts_that_run(name: str, chosen: Layout) -> None:
    assert layout_refusal(load_model(name), chosen) is None


def test_ways_below_one_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        layout_refusal(load_model("llama-3.1-8b"), layout(tp=0))
