"""The independent check of plans for devices that stand in files beside the plan."""

from pathlib import Path

import pytest
import yaml

from planner.plan_check import check_plan
from planner.plan_io import read_plan
from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from tests.core_pair import plan_pair, write_configs
from tests.spec_fixtures import plan, pool, spec


def test_a_plan_for_a_device_profile_is_checked_with_it(tmp_path: Path) -> None:
    write_configs(tmp_path)
    found = read_plan(plan_pair(tmp_path))
    assert found.groups and check_plan(found, tmp_path) == []
    profile = yaml.safe_load((tmp_path / "cpu.yaml").read_text(encoding="utf-8"))
    profile["gpu"]["visible_memory_bytes"] = 1_000_000
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    assert any("more memory than a GPU of cores shows" in fault for fault in check_plan(found, tmp_path))
    with pytest.raises(ProfileError, match=r"cpu\.yaml"):
        check_plan(found, tmp_path / "elsewhere")


def test_a_plan_for_the_gpu_file_of_a_kernel_store_is_checked_with_it(tmp_path: Path) -> None:
    gpu = load_gpu("l4-24gb").model_dump(mode="json", exclude_none=True)
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump({**gpu, "name": "mine"}), encoding="utf-8")
    found = plan(spec(pools=[pool(gpu="./gpu.yaml", buy="gpu", price_usd_per_gpu_hour=1.0)]), tmp_path)
    assert found.groups and check_plan(found, tmp_path) == []
    (tmp_path / "gpu.yaml").write_text(
        yaml.safe_dump({**gpu, "name": "mine", "visible_memory_bytes": 1_000_000}), encoding="utf-8"
    )
    assert any("more memory" in fault for fault in check_plan(found, tmp_path))
