"""A thousand varied deployments in one run of `estimate --from`: at most a minute, most of it on step tables."""

import csv
import sys
import time
from itertools import islice, product
from pathlib import Path

from planner.estimate_rows import estimate_file

ROWS = 1_000
MOST_S = 60.0
COLUMNS = ("model", "gpu", "tp", "pp", "ep", "quantization", "input_tokens", "output_tokens", "concurrency")
DEPLOYMENTS = [
    *product(("qwen3-0.6b", "llama-3.1-8b", "mistral-7b"), ("l4-24gb", "a100-sxm-80gb", "h100-sxm-80gb"), (1, 2)),
    *product(("llama-3.1-70b", "qwen3-32b"), ("h100-sxm-80gb", "h200-sxm-141gb"), (4, 8)),
]
LOADS = [*product((128, 512, 1024, 2048, 4096), (32, 128, 512), (1, 8, 64, 256))]


def test_a_thousand_rows_a_minute(tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "out.csv"
    cases = product(LOADS, DEPLOYMENTS)
    with source.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for (inputs, outputs, clients), (model, gpu, tp) in islice(cases, ROWS):
            writer.writerow((model, gpu, tp, 1, 1, "", inputs, outputs, clients))
    start = time.perf_counter()
    answered, refused = estimate_file(source, target, lambda _done, _total: None)
    taken_s = time.perf_counter() - start
    sys.stdout.write(
        f"\n{answered} rows answered and {refused} refused in {taken_s:.1f} s, {ROWS / taken_s:.0f} a second"
    )
    assert answered + refused == ROWS
    assert answered >= 0.9 * ROWS
    assert taken_s <= MOST_S
