"""A step taken apart into kernels: their times add up to what the step model gives for them."""

from dataclasses import replace

import pytest

from planner.check.step_kernels import StepBuilder
from planner.check.step_mix import MixStep
from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment, estimate_breakdown

H200 = Deployment(
    model=load_model("llama-3.1-8b"),
    gpu=load_gpu("h200-sxm-141gb"),
    engine=load_engine("vllm"),
    quantization=Quantization.BF16,
    kv_dtype=KvDtype.BF16,
)
BUILDER = StepBuilder(deployment=H200, cache_bytes=2**26, budget_s=1.0)
DECODE = MixStep(decodes=32, kv_tokens=32 * 1024, chunks=(), samples=32, predicted_s=0.0)
PROMPT = MixStep(decodes=0, kv_tokens=0, chunks=((0, 512),), samples=1, predicted_s=0.0)


def test_a_decode_step_is_predicted_as_the_step_model_does() -> None:
    built = BUILDER.build(DECODE)
    parts = estimate_breakdown(H200, prefill_tokens=0, decode_batch=32, context=1024)
    run = {"qkv", "attention output", "mlp up", "mlp down", "decode attention", "output head"}
    assert built.predicted_s == pytest.approx(sum(s for name, s, _ in parts if name in run))
    assert {"norms", "sampling", "embedding", "mlp activation"} <= set(BUILDER.left_out()), "no table has them"


def test_the_request_names_every_kernel_of_a_layer() -> None:
    request = BUILDER.build(DECODE).request
    assert request["layers"] == 32
    kernels = [(part["kernel"], part["columns"]) for part in request["layer"]]
    assert ("gemm", {"operand": "bf16", "n": 6144, "k": 4096, "m": 32}) in kernels
    attention = dict(kernels)["decode_attention"]
    assert (attention["batch"], attention["context"], attention["heads"], attention["kv_heads"]) == (32, 1024, 32, 8)
    assert [part["columns"]["n"] for part in request["head"]] == [H200.model.vocab_size]
    assert 1 <= request["copies"] <= 3, "a layer of 8 B is larger than any cache"


def test_a_later_chunk_of_a_prompt_costs_what_it_adds() -> None:
    first = BUILDER.build(replace(PROMPT, chunks=((0, 256),))).predicted_s
    second = BUILDER.build(replace(PROMPT, chunks=((256, 256),)))
    half_s, whole_s = (float(H200.attention.prefill_s(tokens)) for tokens in (256, 512))
    assert second.predicted_s == pytest.approx(first - half_s + (whole_s - half_s))
    columns = next(p["columns"] for p in second.request["layer"] if p["kernel"] == "prefill_attention")
    assert (columns["tokens"], columns["done"]) == (512, 256)


def test_steps_that_sample_nothing_have_no_head() -> None:
    assert BUILDER.build(replace(PROMPT, samples=0)).request["head"] == []


def test_experts_are_run_for_the_tokens_that_meet_in_them() -> None:
    deployment = Deployment(
        model=load_model("qwen3-30b-a3b"),
        gpu=load_gpu("h200-sxm-141gb"),
        engine=load_engine("vllm"),
        quantization=Quantization.BF16,
        kv_dtype=KvDtype.BF16,
        tp=1,
        ep=2,
    )
    built = StepBuilder(deployment=deployment, cache_bytes=2**26, budget_s=1.0).build(DECODE)
    experts = next(p["columns"] for p in built.request["layer"] if p["kernel"] == "moe")
    assert experts["ep"] == 2 and experts["tokens"] == 64, "two ranks bring 32 tokens each"
