"""Fitted kernels against the answers of an established kernel database on shapes that models have.

Source: aiconfigurator-core 0.12.0 (PyPI wheel, Apache-2.0), its compiled query engine on the vLLM tables: a GEMM of
64 x 7168 x 8192 at bf16, prefill attention of one prompt of 2000 tokens and decode attention of 64 sequences of 2000
tokens, both with 8 query heads and 1 KV head of 128, an all-reduce of 64 x 8192 over 8 GPUs, and 64 tokens through the
experts of Qwen3-30B-A3B and of Mixtral 8x7B at tp 2. Milliseconds.
"""

import pytest

from profiles.collectives import Interconnect
from profiles.efficiency import DeviceCurves, curves_of
from profiles.efficiency_fit import read_points
from profiles.gpus import load_gpu
from profiles.roofline import (
    decode_attention_s,
    experts_touched,
    matmul_bytes,
    prefill_attention_s,
    roof_s,
)

GPUS = ("h100-sxm-80gb", "h200-sxm-141gb", "a100-sxm-80gb", "l40s-48gb", "b200-sxm-180gb")
ANCHORS_MS = {
    "gemm": (0.0434, 0.0314, 0.0929, 0.1882, 0.0226),
    "prefill attention": (0.0518, 0.0515, 0.1064, 0.1050, 0.0502),
    "decode attention": (0.0365, 0.0303, 0.0612, 0.0769, 0.0133),
    "all-reduce": (0.0150, 0.0141, 0.0217, 0.5827, 0.0172),
    "experts 128 x 768": (0.404, 0.287, 0.676, 1.561, 0.167),
    "experts 8 x 7168": (0.645, 0.423, 0.928, 2.187, 0.367),
}
TOLERANCE = 0.25
WIDER = {
    ("prefill attention", "h100-sxm-80gb"): 0.32,
    ("prefill attention", "h200-sxm-141gb"): 0.32,
    ("prefill attention", "l40s-48gb"): 0.32,
    ("prefill attention", "b200-sxm-180gb"): 0.32,
    ("decode attention", "l40s-48gb"): 0.40,
    ("decode attention", "b200-sxm-180gb"): 0.40,
    ("all-reduce", "b200-sxm-180gb"): 0.45,
    ("experts 8 x 7168", "b200-sxm-180gb"): 0.40,
}
"""Beyond 25 %, each for a reason: prefill anchors hold some 10 us that the tables' own point at 2048 tokens does not
have (next test); decode anchors of L40S and B200 were measured with the cache in L2; B200's all-reduce table has a bump
that the envelope mends; one curve for all expert shapes is too fast for 8 wide experts on B200.
"""
HOST_SPECIFIC = ("all-reduce", "l40s-48gb")
"""Measured on a host without peer-to-peer over PCIe; a general PCIe ring is used: nothing to compare."""


def experts_s(curves: DeviceCurves, hidden: int, width: int, chosen: int, experts: int) -> float:
    """64 tokens through gated experts at bf16."""
    roof, _ = curves.moe("bf16", "bf16")
    weights = 2.0 * 3 * hidden * width * experts_touched(64, experts, chosen)
    return float(roof_s(roof, weights + 64 * chosen * (4 * hidden + 6 * width), 6.0 * 64 * chosen * hidden * width))


def predicted_s(kernel: str, curves: DeviceCurves) -> float:
    """Our time for an anchor."""
    match kernel:
        case "gemm":
            moved = matmul_bytes(64.0, 7168, 8192, 2.0, 2.0)
            return float(roof_s(curves.gemm("bf16", "bf16"), moved, 2.0 * 64 * 7168 * 8192))
        case "prefill attention":
            return float(prefill_attention_s(curves.prefill(), 8, 512.0, 2000.0))
        case "decode attention":
            return float(decode_attention_s(curves.decode("bf16"), 64.0, 64 * 2000 * 512.0, 0.0))
        case "all-reduce":
            links = Interconnect(
                curves=curves, gpus_per_node=8, intra_node_bytes_per_s=None, inter_node_bytes_per_s=None
            )
            return float(links.all_reduce_s(8, 64 * 8192 * 2.0))
        case "experts 128 x 768":
            return experts_s(curves, 2048, 768, 8, 128)
        case _:
            return experts_s(curves, 4096, 7168, 2, 8)


@pytest.mark.parametrize(("kernel", "gpu"), [(k, g) for k in ANCHORS_MS for g in GPUS if (k, g) != HOST_SPECIFIC])
def test_a_fitted_kernel_is_near_the_database(kernel: str, gpu: str) -> None:
    anchor_s = ANCHORS_MS[kernel][GPUS.index(gpu)] * 1e-3
    tolerance = WIDER.get((kernel, gpu), TOLERANCE)
    assert predicted_s(kernel, curves_of(load_gpu(gpu))) == pytest.approx(anchor_s, rel=tolerance)


@pytest.mark.parametrize("gpu", GPUS)
def test_prefill_attention_is_near_the_measured_point_itself(gpu: str) -> None:
    curves = curves_of(load_gpu(gpu))
    points = read_points(curves.efficiency.name, "prefill_attention", "bf16")
    at = (points["tokens"] == 2048) & (points["heads"] == 8)
    assert float(prefill_attention_s(curves.prefill(), 8, 512.0, 2048.0)) == pytest.approx(
        float(points["latency_s"][at][0]), rel=0.25
    )
