"""Steps against the time per output token of real engines, where the measured rows are at hand.

Rows: silicon_sample.csv of aiconfigurator-core 0.12.0 (Apache-2.0), Llama-3.1-70B at fp8 with vLLM on H100 and B200,
closed loop, lengths uniform on 80 to 100 % of the label. The estimate is a closed form: a decode step at the batch of
the concurrency, plus what the prefills of the other requests add while one request decodes. Queueing for KV memory is
not in it.
"""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment, estimate_breakdown

ROWS = Path(__file__).parents[3] / "shared" / "measured" / "engine_runs.csv.gz"
MEAN_OF_LABEL = 0.9
CHUNK_TOKENS = 8192


def step_s(deployment: Deployment, prefill_tokens: int, batch: int, context: int) -> float:
    """One step."""
    parts = estimate_breakdown(deployment, prefill_tokens=prefill_tokens, decode_batch=batch, context=context)
    return sum(seconds for _, seconds, _ in parts)


def tpot_s(deployment: Deployment, concurrency: int, inputs: int, outputs: int) -> float:
    """Mean time per output token in a closed loop of so many clients."""
    context = inputs + outputs // 2
    decode_s = step_s(deployment, 0, concurrency, context)
    mixed_s = step_s(deployment, min(inputs, CHUNK_TOKENS), concurrency, context)
    return decode_s + min(concurrency / outputs, 1.0) * (mixed_s - decode_s)


def rows_of(system: str) -> list[dict[str, str]]:
    """Aggregated vLLM rows of Llama-3.1-70B at fp8 on one system."""
    with gzip.open(ROWS, "rt", encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if (row["backend"], row["mode"], row["system"], row["precision"]) == ("vllm", "agg", system, "fp8")
            and row["model_path"] == "meta-llama/Llama-3.1-70B"
        ]


@pytest.mark.skipif(not ROWS.exists(), reason="measured rows are not at hand")
@pytest.mark.parametrize(
    ("system", "gpu", "kv_dtype", "median", "p90"),
    [
        ("h100_sxm", "h100-sxm-80gb", KvDtype.BF16, 0.05, 0.12),
        ("b200_sxm", "b200-sxm-180gb", KvDtype.FP8, 0.12, 0.20),
    ],
)
def test_tpot_is_near_what_was_measured(system: str, gpu: str, kv_dtype: KvDtype, median: float, p90: float) -> None:
    errors = []
    for row in rows_of(system):
        deployment = Deployment(
            model=load_model("llama-3.1-70b"),
            gpu=load_gpu(gpu),
            engine=load_engine("vllm"),
            quantization=Quantization.FP8,
            kv_dtype=kv_dtype,
            tp=int(float(row["tp_size"])),
        )
        inputs, outputs = (int(MEAN_OF_LABEL * float(row[key])) for key in ("isl", "osl"))
        predicted_ms = 1e3 * tpot_s(deployment, int(float(row["concurrency"])), inputs, outputs)
        errors.append(abs(predicted_ms / float(row["silicon_tpot_ms"]) - 1))
    assert len(errors) >= 40
    assert np.median(errors) < median
    assert np.quantile(errors, 0.9) < p90
