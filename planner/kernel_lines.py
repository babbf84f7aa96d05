"""What `muxplan profile kernels` measures: the curves that models read their steps from, as far as the device goes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiles.adaptive_grid import Line
from profiles.curves_asked import Asked, curves_asked
from profiles.engines import load_engine
from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.kernel_kinds import COLLECTIVES, DIRECTIONS, KINDS
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment

MEASURED = (
    *("gemm", "prefill_attention", "decode_attention", "mla_prefill", "mla_decode"),
    *("moe", "norm", "collective", "copy"),
)
MEMORY_FRACTION = 0.25
"""The data of a point takes up to this share of the memory; what a kernel needs beside it has room in the rest."""
LONGEST_S = 0.5
"""At the device's peak: a point that takes longer says no more than a shorter one scaled."""
BATCH_STEP = 4
LEAST_CONTEXT = 16
LEAST_BYTES = 2**12
MOST_BYTES = {"collective": 2**26, "copy": 2**28}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How far the sizes go: tokens of a step, sequences of a step, tokens of a sequence."""

    max_tokens: int
    max_batch: int
    max_context: int


def kernel_lines(extent: Extent, deployments: Sequence[Deployment], devices: int) -> list[Line]:
    """The lines to measure for deployments on a machine with so many such devices.

    ProfileError when the device cannot run one of them.
    """
    gpu = deployments[0].gpu
    asked: list[Asked] = list(dict.fromkeys(one for each in deployments for one in curves_asked(each)))
    ranks = [2**power for power in range(1, devices.bit_length()) if 2**power <= devices]
    asked = [one for one in asked if one[0] in MEASURED and one[0] != "collective"]
    asked += [("collective", (operation, count)) for count in ranks for operation in COLLECTIVES]
    asked += [("copy", (direction,)) for direction in DIRECTIONS]
    lines = [line for one in asked for line in _lines(one, extent)]
    fitting = [_fitting(line, gpu) for line in lines]
    return [line for line in fitting if line.high > line.low]


def model_deployments(
    gpu: Gpu, models: Sequence[str], tps: Sequence[int], quantizations: Sequence[str]
) -> list[Deployment]:
    """Models of the catalogue split and stored in each of those ways (by default as they are published)."""
    return [
        Deployment(
            model=architecture,
            gpu=gpu,
            engine=load_engine("vllm"),
            quantization=_quantization(quantization),
            kv_dtype=KvDtype(gpu.half_precision),
            tp=tp,
        )
        for architecture in map(load_model, models)
        for quantization in quantizations or (str(architecture.dtype),)
        for tp in tps
    ]


def _quantization(name: str) -> Quantization:
    try:
        return Quantization(name)
    except ValueError as error:
        raise ProfileError(f"quantization '{name[:40]}' is not known. Known: {', '.join(Quantization)}.") from error


def _lines(asked: Asked, extent: Extent) -> list[Line]:
    kernel, key = asked
    kind = KINDS[kernel]
    fixed = dict(zip(kind.keys, key, strict=True))
    if kind.batch is not None:
        batches = [BATCH_STEP**power for power in range(16) if BATCH_STEP**power <= extent.max_batch]
        ends = (LEAST_CONTEXT, extent.max_context)
        return [Line(kernel=kernel, fixed={**fixed, kind.batch: b}, low=ends[0], high=ends[1]) for b in batches]
    low, high = (LEAST_BYTES, MOST_BYTES[kernel]) if kernel in MOST_BYTES else (1, extent.max_tokens)
    if kernel in ("prefill_attention", "mla_prefill"):
        low, high = LEAST_CONTEXT, max(extent.max_tokens, extent.max_context)
    return [Line(kernel=kernel, fixed=fixed, low=low, high=high)]


def _fitting(line: Line, gpu: Gpu) -> Line:
    """The line cut where its points would not fit into the memory, or take too long."""
    size = line.high
    while size > line.low and not _fits(line, size, gpu):
        size //= 2
    return replace(line, high=max(size, line.low))


def _fits(line: Line, size: int, gpu: Gpu) -> bool:
    columns = {name: np.array([value]) for name, value in line.columns(size).items()}
    work = KINDS[line.kernel].work(columns, gpu)
    within = float(work.bytes_moved[0]) <= MEMORY_FRACTION * gpu.visible_memory_bytes
    return within and float(work.least_s[0]) <= LONGEST_S
