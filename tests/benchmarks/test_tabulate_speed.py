"""How long it takes to tabulate one deployment: hundreds of templates are tabulated per plan."""

import time

from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment, tabulate_step

BUDGET_S = 0.015


def test_a_deployment_is_tabulated_within_its_budget() -> None:
    times = []
    for model, tp in (("llama-3.1-70b", 4), ("deepseek-v3", 8), ("qwen3-235b-a22b", 8)):
        for _ in range(5):
            deployment = Deployment(
                model=load_model(model),
                gpu=load_gpu("h200-sxm-141gb"),
                engine=load_engine("vllm"),
                quantization=Quantization.FP8,
                kv_dtype=KvDtype.BF16,
                tp=tp,
            )
            start = time.perf_counter()
            tabulate_step(deployment)
            times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 2] < BUDGET_S
