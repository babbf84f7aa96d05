"""The memory of one GPU of a replica."""

from dataclasses import dataclass, field, replace

import pytest

from profiles.gpus import load_gpu
from profiles.layout import Layout, Refusal, RefusalReason
from profiles.memory import (
    EngineMemory,
    MemoryBudget,
    activation_bytes,
    kv_bytes_per_sequence,
    kv_bytes_per_token_per_rank,
    memory_budget,
    sequence_kv_tokens,
    weight_bytes_per_rank,
)
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.units import GIB

ENGINE = EngineMemory(
    gpu_memory_utilization=0.9,
    process_overhead_bytes=5 * GIB // 2,
    max_model_len_tokens=4096,
    max_num_batched_tokens=8192,
    max_num_seqs=256,
    block_tokens=16,
    reserved_blocks=1,
)


@dataclass(frozen=True)
class Slice:
    """A device that is only what the memory model asks of one."""

    name: str = "slice"
    visible_memory_bytes: int = 40 * GIB
    peak_flops: dict[str, float] = field(default_factory=lambda: {"bf16": 1e15, "fp16": 1e15})


def layout(quantization: Quantization = Quantization.BF16, tp: int = 1, pp: int = 1, ep: int = 1) -> Layout:
    return Layout(quantization=quantization, kv_dtype=KvDtype.BF16, tp=tp, pp=pp, ep=ep)


def budget_of(name: str, chosen: Layout, gpu: str, engine: EngineMemory = ENGINE) -> MemoryBudget:
    found = memory_budget(load_model(name), chosen, load_gpu(gpu), engine)
    assert isinstance(found, MemoryBudget), found
    return found


def refusal_of(name: str, chosen: Layout, gpu: str, engine: EngineMemory = ENGINE) -> Refusal:
    found = memory_budget(load_model(name), chosen, load_gpu(gpu), engine)
    assert isinstance(found, Refusal), found
    return found


def test_the_terms_add_up_to_the_visible_memory() -> None:
    b = budget_of("llama-3.1-8b", layout(), "h100-sxm-80gb", replace(ENGINE, cuda_graph_bytes=GIB))
    parts = b.slack_bytes + b.process_overhead_bytes + b.weight_bytes + b.activation_bytes + b.cuda_graph_bytes
    assert parts + b.kv_bytes == b.visible_bytes == load_gpu("h100-sxm-80gb").visible_memory_bytes
    assert b.cuda_graph_bytes == GIB
    assert b.kv_tokens - b.usable_kv_tokens == 16
    assert 0 <= b.kv_bytes - b.kv_tokens * b.kv_bytes_per_token < 16 * b.kv_bytes_per_token


def test_a_latent_is_held_whole_by_every_rank() -> None:
    model = load_model("deepseek-v3")
    assert kv_bytes_per_token_per_rank(model, KvDtype.BF16, 1, 1) == 61 * 576 * 2
    assert kv_bytes_per_token_per_rank(model, KvDtype.BF16, 8, 1) == 61 * 576 * 2
    assert kv_bytes_per_token_per_rank(model, KvDtype.FP8, 8, 2) == 31 * 576


def test_windowed_layers_stop_growing() -> None:
    model = load_model("gpt-oss-20b")
    per_layer = 2 * 8 * 64 * 2
    assert kv_bytes_per_sequence(model, 100, KvDtype.BF16, 1, 1) == 24 * 100 * per_layer
    assert kv_bytes_per_sequence(model, 4096, KvDtype.BF16, 1, 1) == (12 * 4096 + 12 * 128) * per_layer
    assert sequence_kv_tokens(model, 4096) == pytest.approx((4096 + 128) / 2)
    assert sequence_kv_tokens(load_model("llama-3.1-8b"), 4096) == 4096


def test_a_windowed_model_fits_longer_requests() -> None:
    model = load_model("gemma-3-27b")
    whole = model.model_copy(update={"sliding_window": None})
    engine = replace(ENGINE, max_model_len_tokens=60_000)
    assert isinstance(memory_budget(model, layout(), load_gpu("h100-sxm-80gb"), engine), MemoryBudget)
    refused = memory_budget(whole, layout(), load_gpu("h100-sxm-80gb"), engine)
    assert isinstance(refused, Refusal) and refused.reason is RefusalReason.KV_TOO_SMALL


def test_the_stage_with_the_least_room_is_reported() -> None:
    model = load_model("gemma-3-27b")
    budget = budget_of("gemma-3-27b", layout(pp=2), "h100-sxm-80gb")
    assert budget.weight_bytes == weight_bytes_per_rank(model, layout(pp=2))
    assert budget.kv_bytes_per_token == kv_bytes_per_token_per_rank(model, KvDtype.BF16, 1, 2)


def test_an_encoder_keeps_no_kv() -> None:
    budget = budget_of("bge-m3", layout(Quantization.FP16), "l4-24gb")
    assert (budget.kv_bytes_per_token, budget.kv_blocks, budget.usable_kv_tokens) == (0, 0, 0)
    assert budget.kv_bytes > 0


@pytest.mark.parametrize(
    ("name", "chosen", "gpu", "reason", "says"),
    [
        ("llama-3.1-70b", layout(), "h100-sxm-80gb", RefusalReason.DOES_NOT_FIT, "131.4 GiB of weights"),
        ("llama-3.1-8b", layout(), "v100-sxm-32gb", RefusalReason.FORMAT, "Use fp16"),
        ("llama-3.1-8b", layout(tp=5), "h100-sxm-80gb", RefusalReason.HEADS, "tp 5"),
        (
            "llama-3.1-8b",
            replace(layout(), kv_dtype=KvDtype.FP8),
            "a100-sxm-80gb",
            RefusalReason.FORMAT,
            "fp8 KV cache",
        ),
    ],
)
def test_refusals(name: str, chosen: Layout, gpu: str, reason: RefusalReason, says: str) -> None:
    refusal = refusal_of(name, chosen, gpu)
    assert refusal.reason is reason
    assert says in refusal.sentence


def test_lengths_beyond_the_model_or_the_cache_are_refused() -> None:
    beyond = refusal_of("opt-13b", layout(Quantization.FP16), "a100-sxm-80gb")
    assert beyond.reason is RefusalReason.MODEL_LENGTH and "2048" in beyond.sentence
    long = replace(ENGINE, max_model_len_tokens=131_072)
    small = refusal_of("llama-3.1-8b", layout(), "l4-24gb", long)
    assert small.reason is RefusalReason.KV_TOO_SMALL and "131072" in small.sentence and "GiB" in small.sentence


def test_fp8_on_a_gpu_without_fp8_units_is_held_weight_only() -> None:
    a100 = budget_of("llama-3.1-8b", layout(Quantization.FP8), "a100-sxm-80gb")
    h100 = budget_of("llama-3.1-8b", layout(Quantization.FP8), "h100-sxm-80gb")
    assert a100.weight_bytes == h100.weight_bytes


def test_a_slice_of_a_gpu_is_a_device() -> None:
    found = memory_budget(load_model("llama-3.1-8b"), layout(), Slice(), ENGINE)
    assert isinstance(found, MemoryBudget) and found.visible_bytes == 40 * GIB


def test_activations_of_a_step() -> None:
    model = load_model("llama-3.1-8b")
    tokens, sampled = 8192, 256
    layer = tokens * (2 * 4096 + 3 * 14336) * 2
    assert activation_bytes(model, layout(), tokens, sampled) == layer
    many = activation_bytes(model, layout(), tokens, tokens)
    assert many == tokens * 2 * 4096 * 2 + tokens * 128_256 * (2 + 8)
    shared = activation_bytes(model, layout(tp=2), tokens, sampled)
    assert shared == tokens * (2 * 4096 + 3 * 7168) * 2 + tokens * 4096 * 2


def test_a_mixture_holds_a_row_per_chosen_expert() -> None:
    model = load_model("qwen3-30b-a3b")
    assert activation_bytes(model, layout(), 4096, 1) == 4096 * (2 * 2048 + 8 * (2048 + 768)) * 2


def test_an_embedding_model_samples_nothing() -> None:
    model = load_model("qwen3-embedding-0.6b")
    assert activation_bytes(model, layout(), 64, 64) < 64 * model.vocab_size
