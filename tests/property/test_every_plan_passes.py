"""Every plan of 500 generated specs passes the independent check; where there is none, the reasons are said."""

from dataclasses import replace
from pathlib import Path

import pytest

from planner.plan_check import check_plan
from planner.plan_file import Plan
from planner.spec_errors import SpecError
from tests.spec_fixtures import OPTIONS, plan, random_spec, write_tables

SPECS = 500
BATCH = 50
QUICK = replace(OPTIONS, try_relaxations=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("specs")
    write_tables(path)
    return path


@pytest.mark.parametrize("first", range(0, SPECS, BATCH))
def test_every_plan_passes_the_check(first: int, folder: Path) -> None:
    plans = 0
    for seed in range(first, first + BATCH):
        try:
            found = plan(random_spec(seed), folder, QUICK)
        except SpecError:
            continue
        assert check_plan(found) == [], f"seed {seed}"
        assert found.groups or found.conflicts, f"seed {seed}"
        assert Plan.model_validate_json(found.model_dump_json()) == found
        plans += bool(found.groups)
    assert plans >= BATCH // 3
