"""Reading a step's time in the compiled path, against reading it with numpy one step at a time."""

import time

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planner.capacity import PackedTable
from planner.step_lookup_kernel import decode_attention_s, dense_s
from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_table import StepTable
from profiles.step_time import Deployment, tabulate_step

BUDGET_S = 0.3e-6
STEPS = 200_000
FloatArray = NDArray[np.float64]


@njit  # type: ignore[untyped-decorator]
def total_s(linear: FloatArray, decode: FloatArray, batches: FloatArray, kv_tokens: FloatArray) -> float:
    total = 0.0
    for i in range(batches.size):
        total += dense_s(linear, batches[i]) + decode_attention_s(decode, batches[i], kv_tokens[i])
    return total


def plain_s(table: StepTable, batch: float, kv_tokens: float) -> float:
    """The same reading in numpy: linear in tokens, linear between powers of two in batch and KV tokens."""
    linear = float(np.interp(batch, np.arange(table.linear_s.size), table.linear_s))
    grid = table.decode_attention_s
    batches, contexts = 2.0 ** np.arange(grid.shape[0]), 2.0 ** np.arange(grid.shape[1])
    rows = [float(np.interp(kv_tokens, contexts, row)) for row in grid]
    return linear + float(np.interp(batch, batches, rows))


def test_a_step_is_read_within_its_budget() -> None:
    table = tabulate_step(
        Deployment(
            model=load_model("llama-3.1-70b"),
            gpu=load_gpu("h200-sxm-141gb"),
            engine=load_engine("vllm"),
            quantization=Quantization.FP8,
            kv_dtype=KvDtype.BF16,
            tp=4,
        )
    )
    linear, decode = PackedTable(table).arrays[:2]
    rng = np.random.default_rng(0)
    batches = rng.uniform(1, 256, STEPS)
    kv_tokens = batches * rng.uniform(100, 8000, STEPS)
    total_s(linear, decode, batches[:10], kv_tokens[:10])
    start = time.perf_counter()
    total = total_s(linear, decode, batches, kv_tokens)
    each_s = (time.perf_counter() - start) / STEPS
    start = time.perf_counter()
    plain = sum(plain_s(table, b, k) for b, k in zip(batches[:500], kv_tokens[:500], strict=True))
    plain_each_s = (time.perf_counter() - start) / 500
    print(f"{1e9 * each_s:.0f} ns a step, numpy {1e6 * plain_each_s:.0f} µs: {plain_each_s / each_s:.0f} ×")  # noqa: T201
    assert np.isclose(total_s(linear, decode, batches[:500], kv_tokens[:500]), plain, rtol=1e-6) and total > 0
    assert each_s < BUDGET_S
    assert plain_each_s / each_s > 20
