"""Tests that start a real engine: skipped, with the reason, where there is no engine environment."""

import os
from pathlib import Path

import pytest

from planner.runtime.environment import EngineEnvironment, find_environment
from planner.runtime.errors import EngineEnvironmentError
from tests.engine.pair import MODELS, SPEC, muxplan, profile


@pytest.fixture(scope="session")
def environment() -> EngineEnvironment:
    try:
        found = find_environment(None)
    except EngineEnvironmentError as error:
        pytest.skip(str(error))
    if found.device != "cpu":
        pytest.skip(f"{found.python} has vLLM for a GPU: these tests are for processor cores")
    return found


@pytest.fixture(scope="session")
def planned(environment: EngineEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny models, the profile of the cores, and a plan."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two engines need two cores")
    folder = tmp_path_factory.mktemp("loop")
    (folder / "pair.yaml").write_text(SPEC)
    for name, (like, layers, hidden) in MODELS.items():
        done = muxplan(
            folder, environment.python, "tiny-model", like, "-o", name, "--layers", layers, "--hidden", hidden
        )
        assert done.returncode == 0, done.stderr
    done = profile(folder, environment.python, passes=1)
    assert done.returncode == 0, done.stderr
    done = muxplan(folder, environment.python, "plan", "pair.yaml", "-o", "plan.yaml")
    assert done.returncode == 0, done.stderr
    return folder
