"""A sweep of the example with two workers against one, rows compared."""

import sys
import time
from pathlib import Path

import pytest

from planner import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_fleet.yaml"
LEAST_SPEEDUP = 1.7


def swept(folder: Path, workers: int, variants: int) -> tuple[float, bytes]:
    rates = ",".join(f"x{0.5 + i / variants:.3f}" for i in range(variants))
    output = folder / f"{workers}.csv"
    vary = f"workloads.chat.traffic.rate_rps={rates}"
    start = time.perf_counter()
    assert cli.main(["sweep", str(EXAMPLE), "--vary", vary, "-o", str(output), "--workers", str(workers)]) == 0
    return time.perf_counter() - start, output.read_bytes()


@pytest.mark.parametrize("variants", [100])
def test_two_workers_are_nearly_twice_as_fast_as_one(tmp_path: Path, variants: int) -> None:
    cli.main(["plan", str(EXAMPLE)])  # compiles
    one_s, one = swept(tmp_path, 1, variants)
    two_s, two = swept(tmp_path, 2, variants)
    sys.stdout.write(f"{variants} variants: {one_s:.1f} s with one worker, {two_s:.1f} s with two\n")
    assert one == two
    assert one_s / two_s >= LEAST_SPEEDUP
