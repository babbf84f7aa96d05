"""The curves that a deployment reads are those that its step model really looks up."""

from profiles.curves_asked import curves_asked
from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.kernel_table import KernelTables
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment


def deployment(model: str, tp: int, quantization: Quantization = Quantization.BF16) -> Deployment:
    """On an H200, with a 16-bit cache."""
    return Deployment(
        model=load_model(model),
        gpu=load_gpu("h200-sxm-141gb"),
        engine=load_engine("vllm"),
        quantization=quantization,
        kv_dtype=KvDtype.BF16,
        tp=tp,
    )


def test_a_dense_model_asks_for_its_products_and_attention() -> None:
    found = curves_asked(deployment("llama-3.1-8b", 2))
    assert ("gemm", ("bf16", 3072, 4096)) in found, "queries and both caches of half the heads"
    assert ("gemm", ("bf16", 64128, 4096)) in found, "half of the output head"
    assert ("decode_attention", ("bf16", 128, 16, 4, 0)) in found
    assert ("collective", ("all_reduce", 2)) in found
    assert len(found) == len(set(found))


def test_experts_are_asked_for_by_their_split() -> None:
    found = curves_asked(deployment("qwen3-30b-a3b", 4))
    assert ("moe", ("bf16", 2048, 768, 8, 128, 4, 1)) in found


def test_most_of_what_is_asked_for_is_in_the_shipped_tables() -> None:
    one = deployment("llama-3.1-8b", 1, Quantization.FP8)
    tables = one.tables
    assert isinstance(tables, KernelTables)
    products = [key for kind, key in curves_asked(one) if kind == "gemm"]
    assert len(products) == 5 and all(tables.gemm(str(k[0]), int(k[1]), int(k[2])) is not None for k in products)
