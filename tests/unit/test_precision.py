"""Bytes of number formats, and which GPU runs which."""

import pytest

from profiles.gpus import load_gpu
from profiles.precision import Execution, KvDtype, Quantization, execution, kv_runs, matrix_bytes, native_kv_dtype


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (Quantization.FP32, 4 * 256 * 384),
        (Quantization.BF16, 2 * 256 * 384),
        (Quantization.FP8, 256 * 384 + 4 * 256),
        (Quantization.FP8_BLOCK, 256 * 384 + 4 * 2 * 3),
        (Quantization.AWQ, 256 * 384 // 2 + 256 * 3 * 2 + 256 * 3 // 2),
        (Quantization.MXFP4, 256 * 384 * 17 // 32),
        (Quantization.NVFP4, 256 * 384 * 9 // 16 + 4),
    ],
)
def test_bytes_of_a_matrix(quantization: Quantization, expected: int) -> None:
    assert matrix_bytes(quantization, 256, 384) == expected


def test_a_cut_block_still_has_its_scale() -> None:
    assert matrix_bytes(Quantization.FP8_BLOCK, 129, 1) == 129 + 4 * 2
    assert matrix_bytes(Quantization.MXFP4, 1, 33) == 2 * 17


@pytest.mark.parametrize(
    ("gpu", "quantization", "expected"),
    [
        ("h100-sxm-80gb", Quantization.FP8, Execution.NATIVE),
        ("h100-sxm-80gb", Quantization.FP8_BLOCK, Execution.NATIVE),
        ("a100-sxm-80gb", Quantization.FP8, Execution.WEIGHT_ONLY),
        ("a100-sxm-80gb", Quantization.BF16, Execution.NATIVE),
        ("v100-sxm-16gb", Quantization.BF16, None),
        ("v100-sxm-16gb", Quantization.FP16, Execution.NATIVE),
        ("v100-sxm-16gb", Quantization.FP8, None),
        ("v100-sxm-16gb", Quantization.GPTQ, Execution.WEIGHT_ONLY),
        ("v100-sxm-16gb", Quantization.FP32, Execution.NATIVE),
        ("b200-sxm-180gb", Quantization.NVFP4, Execution.NATIVE),
        ("h100-sxm-80gb", Quantization.NVFP4, Execution.WEIGHT_ONLY),
    ],
)
def test_what_a_gpu_runs(gpu: str, quantization: Quantization, expected: Execution | None) -> None:
    assert execution(quantization, load_gpu(gpu).peak_flops) is expected


def test_kv_formats() -> None:
    assert [d.bytes for d in KvDtype] == [4, 2, 2, 1]
    assert kv_runs(KvDtype.FP8, load_gpu("h100-sxm-80gb").peak_flops)
    assert not kv_runs(KvDtype.FP8, load_gpu("a100-sxm-80gb").peak_flops)
    assert not kv_runs(KvDtype.BF16, load_gpu("v100-sxm-16gb").peak_flops)
    assert native_kv_dtype(Quantization.FP8) is KvDtype.BF16
    assert native_kv_dtype(Quantization.FP16) is KvDtype.FP16
    assert native_kv_dtype(Quantization.FP32) is KvDtype.FP32
