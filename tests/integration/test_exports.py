"""Exports: read by the targets' own parsers, and harmless whatever a plan's names hold."""

import json
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from planner import cli
from planner.export.launch import ExportError
from planner.export.targets import exported_files, write_export
from planner.plan_file import Plan
from planner.plan_io import read_plan
from tests.small_spec import written

HOSTILE = ["a; rm -rf ~ #", "$(touch pwned)", "../../x", "x" * 300, "new\nline", "`id`", "ünïcode", "-o"]
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("exported")
    assert cli.main(["plan", str(written(folder)), "-o", str(folder / "plan.yaml")]) == 0
    return read_plan(folder / "plan.yaml")


def renamed(plan: Plan, name: str) -> Plan:
    """The plan with a hostile name as queue, group and node."""
    data = plan.model_dump(mode="json")
    for route in (route for routes in data["routes"].values() for route in routes):
        route["group"] = name
    for group in data["groups"]:
        group["id"] = group["queue"] = name
        for gpu in group["gpu_ids"]:
            gpu["node"] = name
    return Plan.model_validate(data)


def test_kubernetes_manifests_are_valid(plan: Plan) -> None:
    files, left_out = exported_files(plan, "kubernetes")
    assert left_out == ()
    objects = [o for text in files.values() for o in yaml.safe_load_all(text)]
    assert {o["kind"] for o in objects} == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}
    for one in objects:
        kubernetes_validate.validate(one, "1.37", strict=True)


def test_vllm_files_hold_the_plans_settings(plan: Plan) -> None:
    files, _ = exported_files(plan, "vllm")
    config = yaml.safe_load(next(text for name, text in files.items() if name.endswith(".yaml")))
    engine = plan.groups[0].replicas[0].engine
    assert engine is not None
    assert config["max-num-seqs"] == engine.max_num_seqs
    assert config["kv-cache-memory-bytes"] == engine.kv_cache_memory_bytes
    assert config["model"] == "Qwen/Qwen3-0.6B"
    assert len(json.loads(files["launch.json"])) == len(plan.groups)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(plan: Plan, name: str, tmp_path: Path) -> None:
    for target in ("vllm", "kubernetes"):
        folder = tmp_path / target
        files, _ = exported_files(renamed(plan, name), target)
        write_export(files, folder)
        assert all(Path(f).name == f and len(f) < 120 for f in files)
        assert {p.parent for p in folder.rglob("*")} == {folder}
    for text in files.values():
        for one in yaml.safe_load_all(text):
            assert LABEL.fullmatch(one["metadata"]["name"])
            kubernetes_validate.validate(one, "1.37", strict=True)


@pytest.mark.parametrize("name", HOSTILE)
def test_launch_script_passes_the_words_on_unchanged(plan: Plan, name: str, tmp_path: Path) -> None:
    files, _ = exported_files(renamed(plan, name), "vllm")
    folder = tmp_path / "deploy"
    write_export(files, folder)
    binary = tmp_path / "bin"
    binary.mkdir()
    (binary / "vllm").write_text('#!/bin/sh\nprintf "%s|" "$CUDA_VISIBLE_DEVICES" "$@" >>"$OUT"\n')
    (binary / "vllm").chmod(0o755)
    out = tmp_path / "out"
    env = {"PATH": f"{binary}:/usr/bin:/bin", "OUT": str(out)}
    done = subprocess.run(["sh", "launch.sh", name], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_text().count("|serve|--config|") == len(plan.groups)
    assert not list(tmp_path.rglob("pwned"))
    unknown = subprocess.run(["sh", "launch.sh", "nosuch"], cwd=folder, env=env, capture_output=True, check=False)
    assert unknown.returncode == 2


def test_refusals(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Maybe you meant 'vllm'"):
        exported_files(plan, "vlm")
    data = plan.model_dump(mode="json")
    data["groups"][0]["kind"] = "colocated"
    with pytest.raises(ExportError, match="what-if"):
        exported_files(Plan.model_validate(data), "vllm")
    data = plan.model_dump(mode="json")
    data["groups"][0]["replicas"][0]["kv_tokens"] = 100
    with pytest.raises(ExportError, match="one request may have"):
        exported_files(Plan.model_validate(data), "vllm")
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"precious\.txt"):
        write_export({"a.yaml": "x: 1\n"}, tmp_path)


def test_an_export_replaces_its_own_files_only(tmp_path: Path) -> None:
    write_export({"a.yaml": "1\n", "b.yaml": "2\n"}, tmp_path / "d")
    write_export({"a.yaml": "3\n"}, tmp_path / "d")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["a.yaml", "muxplan-export.json"]
    assert (tmp_path / "d" / "a.yaml").read_text() == "3\n"
