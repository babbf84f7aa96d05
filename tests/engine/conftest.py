"""Tests that start a real engine: skipped, with the reason, where there is no engine environment."""

import pytest

from planner.runtime.environment import EngineEnvironment, find_environment
from planner.runtime.errors import EngineEnvironmentError


@pytest.fixture(scope="session")
def environment() -> EngineEnvironment:
    try:
        found = find_environment(None)
    except EngineEnvironmentError as error:
        pytest.skip(str(error))
    if found.device != "cpu":
        pytest.skip(f"{found.python} has vLLM for a GPU: these tests are for processor cores")
    return found
