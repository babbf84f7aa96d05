"""The process that measures kernels, and a profile's points on their way into tables."""

import sys
from pathlib import Path

import pytest

from planner import cli
from planner.profile_kernels import imported_points, points_csv
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineEnvironmentError, EngineError
from planner.runtime.torch_worker import TorchWorker
from profiles.gpus import load_gpu


def test_a_python_that_cannot_measure_says_why() -> None:
    with TorchWorker(python=Path(sys.executable), device="cpu") as worker, pytest.raises(EngineError) as told:
        worker.ask({"do": "describe"})
    assert "the process that measures kernels died" in str(told.value)


def test_a_python_without_torch_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineEnvironmentError, match="has no torch installed"):
        find_torch(sys.executable)
    command = ["profile", "kernels", "--device", "cpu", "-o", str(tmp_path / "k"), "--engine-python", sys.executable]
    assert cli.main(command) == 2
    assert "has no torch installed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_points_come_back_from_their_file_as_tables() -> None:
    told = {"spread_fraction": 0.01, "runs": 9, "timed_by": "graph", "measured_s": 2e-5}
    columns = {"operand": "bf16", "n": 4096, "k": 4096}
    rows = [
        {"kernel": "gemm", "columns": {**columns, "m": m}, "seconds": 2e-5 + 4e-8 * m, **told} for m in (1, 64, 1024)
    ]
    rows.append(
        {"kernel": "norm", "columns": {"operand": "bf16", "hidden": 4096, "tokens": 8}, "seconds": 4e-6, **told}
    )
    rows.append({"kernel": "copy", "columns": {"direction": "host_to_device", "bytes": 2**26}, "seconds": 2e-3, **told})
    text = points_csv(rows, "NVIDIA H200")
    assert text.splitlines()[0].endswith("latency_us,measured_us,spread_fraction,runs,timed_by")
    found = imported_points(text, load_gpu("h200-sxm-141gb"), "a test")
    assert {name: table.points for name, table in found.index.tables.items()} == {"gemm": 3, "norm": 1, "copy": 1}
    assert found.index.device == "NVIDIA H200" and found.index.sources[0].source == "a test"
