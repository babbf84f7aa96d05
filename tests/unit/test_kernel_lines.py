"""What the profiler sets out to measure, cut to the device."""

import pytest

from planner.kernel_lines import Extent, kernel_lines, model_deployments
from profiles.adaptive_grid import Line
from profiles.errors import ProfileError
from profiles.gpus import Gpu, load_gpu

GPU = load_gpu("h200-sxm-141gb")


EXTENT = Extent(max_tokens=8192, max_batch=64, max_context=16384)


def lines(devices: int, gpu: Gpu = GPU, model: str = "llama-3.1-8b") -> list[Line]:
    """Of one model at tp 1 and 2."""
    return kernel_lines(EXTENT, model_deployments(gpu, [model], [1, 2], ["bf16"]), devices)


def test_lines_cover_the_model_and_the_devices_there_are() -> None:
    found = lines(4)
    kinds = {line.kernel for line in found}
    assert kinds == {"gemm", "prefill_attention", "decode_attention", "norm", "collective", "copy"}
    assert {line.fixed["gpus"] for line in found if line.kernel == "collective"} == {2, 4}
    assert {line.fixed["batch"] for line in found if line.kernel == "decode_attention"} == {1, 4, 16, 64}
    assert not [line for line in lines(1) if line.kernel == "collective"]


def test_points_that_would_not_fit_are_not_set_out_for() -> None:
    small = GPU.model_copy(update={"visible_memory_bytes": 2**30})
    cut = [line for line in lines(1, small) if line.kernel == "decode_attention"]
    whole = [line for line in lines(1) if line.kernel == "decode_attention"]
    assert {line.high for line in whole} == {16384} and min(line.high for line in cut) < 16384
    for line in cut:
        cache = int(line.fixed["batch"]) * line.high * int(line.fixed["kv_heads"]) * 2 * 128 * 2
        assert cache <= 2**28, "the cache of a point takes a quarter of the memory at most"


def test_experts_are_lines_of_their_own() -> None:
    found = [line for line in lines(1, model="qwen3-30b-a3b") if line.kernel == "moe"]
    assert {line.fixed["tp"] for line in found} == {1, 2}


def test_latent_attention_is_measured_by_its_heads() -> None:
    found = lines(1, model="deepseek-v3")
    assert {line.fixed["heads"] for line in found if line.kernel == "mla_prefill"} == {128, 64}
    assert {line.fixed["batch"] for line in found if line.kernel == "mla_decode"} == {1, 4, 16, 64}
    assert not [line for line in found if line.kernel == "decode_attention"]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ProfileError, match="quantization 'fp7' is not known"):
        model_deployments(GPU, ["llama-3.1-8b"], [1], ["fp7"])
