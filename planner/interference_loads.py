"""The kernels that are measured in pairs: the classes of a serving step, each at a few intensities."""

from collections.abc import Mapping

import numpy as np

from planner.runtime.torch_worker import Device
from profiles.gpus import Gpu
from profiles.interference import Demand
from profiles.kernel_kinds import KINDS, Columns

Shape = tuple[str, Mapping[str, str | int]]
HEADS: Mapping[str, str | int] = {"head_dim": 128, "heads": 32, "kv_heads": 8, "window": 0}
FEW_HEADS: Mapping[str, str | int] = {"head_dim": 64, "heads": 8, "kv_heads": 2, "window": 0}


def load_shapes(device: Device, operand: str) -> dict[str, Shape]:
    """Kernels by name; sizes that run for about a millisecond, and caches larger than the last cache of the device."""
    return _of_a_gpu(operand) if device == "cuda" else _of_a_core(operand)


def _of_a_gpu(operand: str) -> dict[str, Shape]:
    half = {"operand": operand}
    return {
        "gemm m4096": ("gemm", {**half, "m": 4096, "n": 8192, "k": 8192}),
        "gemm m512": ("gemm", {**half, "m": 512, "n": 8192, "k": 8192}),
        "gemm m64": ("gemm", {**half, "m": 64, "n": 28672, "k": 8192}),
        "prefill 4096": ("prefill_attention", {**half, **HEADS, "tokens": 4096}),
        "prefill 1024": ("prefill_attention", {**half, **HEADS, "tokens": 1024}),
        "decode 256 x 4096": ("decode_attention", {**half, **HEADS, "batch": 256, "context": 4096}),
        "decode 16 x 2048": ("decode_attention", {**half, **HEADS, "batch": 16, "context": 2048}),
        "copy 1 GiB": ("copy", {"direction": "device_to_device", "bytes": 2**30}),
    }


def _of_a_core(operand: str) -> dict[str, Shape]:
    half = {"operand": operand}
    return {
        "gemm m256": ("gemm", {**half, "m": 256, "n": 1024, "k": 1024}),
        "gemm m1": ("gemm", {**half, "m": 1, "n": 8192, "k": 4096}),
        "prefill 256": ("prefill_attention", {**half, **FEW_HEADS, "tokens": 256}),
        "decode 16 x 8192": ("decode_attention", {**half, **FEW_HEADS, "batch": 16, "context": 8192}),
        "decode 4 x 256": ("decode_attention", {**half, **FEW_HEADS, "batch": 4, "context": 256}),
        "copy 64 MiB": ("copy", {"direction": "device_to_device", "bytes": 2**26}),
    }


def demand_of(shape: Shape, alone_s: float, share_fraction: float, gpu: Gpu) -> Demand:
    """What a kernel takes of a device on which it runs alone for so long."""
    kernel, named = shape
    columns: Columns = {name: np.array([value]) for name, value in named.items()}
    work = KINDS[kernel].work(columns, gpu)
    return Demand(
        share_fraction=share_fraction,
        compute_fraction=min(round(float(work.flops[0] / work.flops_per_s[0]) / alone_s, 4), 1.0),
        bandwidth_fraction=min(round(float(work.bytes_moved[0]) / work.bytes_per_s / alone_s, 4), 1.0),
    )
