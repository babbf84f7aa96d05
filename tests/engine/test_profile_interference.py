"""`muxplan profile interference` for real: two processes on one core, and on two."""

import os
from pathlib import Path

import pytest

from planner import cli
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineEnvironmentError
from profiles.interference import load_interference


def test_pairs_on_one_core_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        python = find_torch(None)
    except EngineEnvironmentError as error:
        pytest.skip(str(error))
    core = str(min(os.sched_getaffinity(0)))
    monkeypatch.setattr("planner.profile_interference.load_shapes", lambda *_: SHAPES)
    command = ["profile", "interference", "--device", "cpu", "--cores", core, "-o", str(tmp_path / "i.yaml")]
    assert cli.main([*command, "--window", "0.4", "--passes", "1", "--engine-python", str(python)]) == 0
    found = load_interference(tmp_path / "i.yaml")
    assert len(found.pairs) == 3 and set(found.loads) == {"product (cores 100%)", "copy (cores 100%)"}
    # Two processes that never wait get half a core each, whatever else the machine does to both.
    both = [s for pair in found.pairs for s in (pair.first_slowdown, pair.second_slowdown)]
    assert sum(both) / len(both) > 1.3
    assert min(load.demand.bandwidth_fraction for load in found.loads.values()) >= 0.0


SHAPES = {
    "product": ("gemm", {"operand": "fp32", "m": 64, "n": 512, "k": 512}),
    "copy": ("copy", {"direction": "device_to_device", "bytes": 2**23}),
}
