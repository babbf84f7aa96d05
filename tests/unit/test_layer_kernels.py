"""The kernels of a pipeline stage."""

import numpy as np
import pytest

from profiles.engines import load_engine
from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from profiles.layer_kernels import Kernel, head_kernels, stage_kernels, weight_format
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment


def kernels(model: str, gpu: str, quantization: Quantization, tp: int = 1, ep: int = 1) -> dict[str, Kernel]:
    """Kernels of the whole model on one rank, by name."""
    deployment = Deployment(
        model=load_model(model),
        gpu=load_gpu(gpu),
        engine=load_engine("vllm"),
        quantization=quantization,
        kv_dtype=KvDtype.BF16,
        tp=tp,
        ep=ep,
    )
    return {k.name: k for k in stage_kernels(deployment.rank, deployment.stage_layers)}


def seconds(kernel: Kernel, tokens: float) -> float:
    """One run of a kernel."""
    return float(kernel.seconds(np.array([tokens]))[0])


def test_a_dense_model_has_the_kernels_of_its_layers() -> None:
    found = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.BF16)
    assert set(found) == {"qkv", "attention output", "mlp up", "mlp activation", "mlp down", "norms", "embedding"}
    assert found["qkv"].repeats == 32 and found["norms"].repeats == 64


def test_small_gemms_read_their_weights_at_the_device_s_bandwidth() -> None:
    up = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.BF16)["mlp up"]
    weights_s = 2 * 28672 * 4096 / 3.352e12
    assert weights_s < seconds(up, 1) < 1.4 * weights_s


def test_tensor_parallel_ranks_share_the_work_and_reduce_twice_a_layer() -> None:
    one = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.BF16)
    four = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.BF16, tp=4)
    assert seconds(four["mlp up"], 8192) == pytest.approx(seconds(one["mlp up"], 8192) / 4, rel=0.15)
    assert "all-reduce" not in one and four["all-reduce"].repeats == 64


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    eight = kernels("qwen3-235b-a22b", "h200-sxm-141gb", Quantization.FP8, tp=8, ep=8)
    four = kernels("qwen3-235b-a22b", "h200-sxm-141gb", Quantization.FP8, tp=4, ep=4)
    assert seconds(eight["qkv"], 8192) > 0.5 * seconds(four["qkv"], 8192)


def test_a_moe_step_reads_the_experts_it_touches_not_the_active_weights() -> None:
    experts = kernels("qwen3-30b-a3b", "h100-sxm-80gb", Quantization.BF16)["experts"]
    one_expert_s = 3 * 2 * 2048 * 768 / 3.352e12
    touched_by_64 = 128 * (1 - (1 - 8 / 128) ** 64)
    added_s = seconds(experts, 64) - seconds(experts, 1)
    assert added_s > 0.9 * (touched_by_64 - 8) * one_expert_s


def test_expert_parallel_ranks_hold_fewer_whole_experts() -> None:
    split = kernels("qwen3-30b-a3b", "h100-sxm-80gb", Quantization.BF16, tp=4)["experts"]
    spread = kernels("qwen3-30b-a3b", "h100-sxm-80gb", Quantization.BF16, tp=4, ep=4)["experts"]
    assert seconds(spread, 4096) > seconds(split, 4096), "the busiest of ep ranks has more than its share"
    assert seconds(spread, 64) == pytest.approx(seconds(split, 64), rel=0.2)


def test_attention_ranks_that_share_experts_exchange_tokens() -> None:
    found = kernels("deepseek-v3", "h200-sxm-141gb", Quantization.FP8_BLOCK, tp=1, ep=8)
    assert "all-to-all" in found and "all-reduce" not in found
    assert {"latent down", "query up", "key value up", "shared expert up", "router"} <= set(found)


def test_block_scaled_fp8_takes_the_engine_s_factor_longer() -> None:
    plain = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.FP8)["mlp up"]
    block = kernels("llama-3.1-8b", "h100-sxm-80gb", Quantization.FP8_BLOCK)["mlp up"]
    assert seconds(block, 4096) == pytest.approx(1.15 * seconds(plain, 4096), rel=1e-3)


def test_mxfp4_shrinks_the_experts_only() -> None:
    mx = kernels("gpt-oss-120b", "h100-sxm-80gb", Quantization.MXFP4)
    bf16 = kernels("gpt-oss-120b", "h100-sxm-80gb", Quantization.BF16)
    assert seconds(mx["qkv"], 8) == seconds(bf16["qkv"], 8)
    assert seconds(mx["experts"], 64) < 0.5 * seconds(bf16["experts"], 64)


@pytest.mark.parametrize(
    ("quantization", "gpu", "operand"),
    [
        (Quantization.FP8, "h100-sxm-80gb", "fp8"),
        (Quantization.FP8, "a100-sxm-80gb", "bf16"),
        (Quantization.AWQ, "h100-sxm-80gb", "bf16"),
        (Quantization.NVFP4, "b200-sxm-180gb", "fp4"),
        (Quantization.NVFP4, "h100-sxm-80gb", "bf16"),
        (Quantization.INT8, "a100-sxm-80gb", "int8"),
        (Quantization.FP32, "v100-sxm-16gb", "fp32"),
        (Quantization.FP16, "v100-sxm-16gb", "fp16"),
    ],
)
def test_arithmetic_follows_what_the_gpu_has(quantization: Quantization, gpu: str, operand: str) -> None:
    assert weight_format(quantization, load_gpu(gpu), 1.0).operand == operand


def test_weights_that_a_gpu_cannot_run_are_refused() -> None:
    with pytest.raises(ProfileError, match="v100-sxm-16gb cannot run bf16"):
        weight_format(Quantization.BF16, load_gpu("v100-sxm-16gb"), 1.0)


def test_an_embedding_model_has_no_head() -> None:
    deployment = Deployment(
        model=load_model("bge-m3"),
        gpu=load_gpu("l4-24gb"),
        engine=load_engine("vllm"),
        quantization=Quantization.FP16,
        kv_dtype=KvDtype.FP16,
    )
    assert head_kernels(deployment.rank) == []
