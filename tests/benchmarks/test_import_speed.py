"""Importing the kernel tables of one GPU, where the wheel is at hand: MUXPLAN_AICONFIGURATOR_WHEEL names it."""

import os
import time
from pathlib import Path

import pytest

from planner import cli
from profiles.gpus import load_gpu
from profiles.kernel_table import load_tables

WHEEL = os.environ.get("MUXPLAN_AICONFIGURATOR_WHEEL", "")
LIMIT_S = 30.0

pytestmark = pytest.mark.skipif(not WHEEL, reason="MUXPLAN_AICONFIGURATOR_WHEEL names no wheel of aiconfigurator-core")


@pytest.mark.parametrize("gpu", ["h200-sxm-141gb", "b200-sxm-180gb"])
def test_one_system_is_imported_within_its_time(gpu: str, tmp_path: Path) -> None:
    folder = tmp_path / gpu
    start = time.perf_counter()
    command = ["profile", "import", "aiconfigurator", "--system", gpu, "--from", WHEEL, "-o", str(folder)]
    assert cli.main(command) == 0
    wall_s = time.perf_counter() - start
    shipped, fresh = (load_tables(path, load_gpu(gpu)) for path in (shipped_folder(gpu), folder))
    assert set(fresh.kinds) == set(shipped.kinds)
    assert wall_s <= LIMIT_S, f"{wall_s:.1f} s"


def shipped_folder(gpu: str) -> Path:
    """Where the tables that ship lie."""
    return Path(__file__).parents[2] / "profiles" / "data" / "kernels" / gpu
