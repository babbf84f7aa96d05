"""Exports: read by the targets' own parsers, and harmless whatever a plan's names hold."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from planner import cli
from planner.export import compose
from planner.export.launch import ExportError, launches_of
from planner.export.targets import MANIFEST, TARGETS, exported_files, write_export
from planner.plan_file import Plan
from planner.plan_io import read_plan
from profiles.errors import PlanningError
from tests.core_pair import plan_pair, write_configs
from tests.small_spec import written

HOSTILE = ["a; rm -rf ~ #", "$(touch pwned)", "../../x", "x" * 300, "new\nline", "`id`", "ünïcode", "-o"]
FIELDS = {
    *("apiVersion", "kind", "metadata", "spec", "data"),
    *("name", "services", "configs", "volumes", "http_options", "applications", "inferencePool"),
    *("model", "host", "port", "served-model-name", "tensor-parallel-size", "pipeline-parallel-size", "max-model-len"),
    *("max-num-seqs", "max-num-batched-tokens", "gpu-memory-utilization", "kv-cache-memory-bytes", "kv-cache-dtype"),
    *("enable-prefix-caching", "dtype"),
}
PART = re.compile(r"[a-z0-9][-a-z0-9]{0,79}(\.[a-z]+){0,2}")
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(plan: Plan, name: str, target: str, tmp_path: Path) -> None:
    folder = tmp_path / target
    files, _ = exported_files(renamed(plan, name), target)
    write_export(files, folder)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {*files, MANIFEST}
    for file, text in files.items():
        assert all(PART.fullmatch(part) for part in Path(file).parts)
        if file.endswith(".yaml"):
            for one in yaml.safe_load_all(text):
                # Nothing of a name may be taken for a setting, a tag or another document.
                assert set(one) <= FIELDS, file
                if "metadata" in one:
                    assert LABEL.fullmatch(one["metadata"]["name"])
                assert {*one.get("services", ()), *one.get("configs", ())} <= set(filter(LABEL.fullmatch, words(text)))
        elif file.endswith(".json"):
            json.loads(text)


def words(text: str) -> list[str]:
    """The words of a text, without the colons behind them."""
    return [word.rstrip(":") for word in text.split()]


@pytest.mark.parametrize("name", ["a; rm -rf ~ #", "$(x)", "../x", "x" * 300])
def test_hostile_workloads_are_data_or_refused(plan: Plan, name: str) -> None:
    data = plan.model_dump(mode="json")
    for part in ("routes", "workloads"):
        data[part] = {name: data[part]["chat"]}
    for target in TARGETS:
        files, _ = exported_files(Plan.model_validate(data), target)
        holding = [text for text in files.values() if json.dumps(name) in text]
        assert len(holding) == 1, target
        assert not any(name in file for file in files)
    data["spec"]["workloads"][0]["name"] = name
    with pytest.raises(PlanningError, match="is not a name"):
        exported_files(Plan.model_validate(data), "vllm")


@pytest.mark.parametrize("name", ["$(touch pwned)", "`id`", "a$HOME", "${HOME}"])
def test_compose_replaces_nothing_in_a_local_path(plan: Plan, name: str, tmp_path: Path) -> None:
    launched = launches_of(plan)
    local = replace(launched.launches[0], local=True, source=f"/models/{name}")
    files = compose.files(replace(launched, launches=(local,)))
    service = next(iter(yaml.safe_load(next(iter(files.values())))["services"].values()))
    assert service["volumes"][0]["source"].replace("$$", "").count("$") == 0
    assert service["volumes"][0]["source"].replace("$$", "$") == f"/models/{name}"


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
    data["groups"][0]["kind"] = "multiplexed"
    with pytest.raises(ExportError, match="what-if"):
        exported_files(Plan.model_validate(data), "vllm")
    data = plan.model_dump(mode="json")
    data["groups"][0]["replicas"][0]["kv_tokens"] = 100
    with pytest.raises(ExportError, match="one request may have"):
        exported_files(Plan.model_validate(data), "vllm")
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"precious\.txt"):
        write_export({"a.yaml": "x: 1\n"}, tmp_path)


def test_ray_serve_on_cores_asks_for_cores_and_says_where_the_models_lie(tmp_path: Path) -> None:
    write_configs(tmp_path)
    plan = read_plan(plan_pair(tmp_path))
    files, _ = exported_files(plan, "ray-serve", tmp_path)
    head = files["serve.yaml"].split("http_options:")[0]
    assert str(tmp_path / "talker") in head and str(tmp_path / "writer") in head
    for application in yaml.safe_load(files["serve.yaml"])["applications"]:
        (model,) = application["args"]["llm_configs"]
        assert "accelerator_type" not in model and model["accelerator_config"] == {"kind": "cpu"}
        assert model["placement_group_config"]["bundles"] == [{"CPU": 1}]
        assert model["runtime_env"]["env_vars"]["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
        # The plan's two cores are both taken by engines: nothing else may ask for one.
        assert model["deployment_config"]["ray_actor_options"] == {"num_cpus": 0}
        assert application["args"]["ingress_deployment_config"]["ray_actor_options"] == {"num_cpus": 0}
    data = plan.model_dump(mode="json")
    group = data["groups"][0]
    group["tp"], group["gpu_ids"] = 2, [{"node": group["gpu_ids"][0]["node"], "index": index} for index in (0, 1)]
    with pytest.raises(ExportError, match="binds no replica to cores"):
        exported_files(Plan.model_validate(data), "ray-serve", tmp_path)
    for target in set(TARGETS) - {"vllm", "ray-serve"}:
        with pytest.raises(ExportError, match="processor cores"):
            exported_files(plan, target, tmp_path)


def test_an_export_replaces_its_own_files_only(tmp_path: Path) -> None:
    write_export({"a.yaml": "1\n", "b.yaml": "2\n", "c/1/d.json": "{}\n"}, tmp_path / "d")
    write_export({"a.yaml": "3\n"}, tmp_path / "d")
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["a.yaml", "muxplan-export.json"]
    assert (tmp_path / "d" / "a.yaml").read_text() == "3\n"


def test_a_forged_list_of_files_removes_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    write_export({"a.yaml": "1\n"}, tmp_path / "d")
    forged = ["../precious.txt", str(tmp_path / "precious.txt"), "d/../../precious.txt", "a.yaml"]
    (tmp_path / "d" / MANIFEST).write_text(json.dumps(forged))
    write_export({"b.yaml": "2\n"}, tmp_path / "d")
    assert (tmp_path / "precious.txt").read_text() == "mine"
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["b.yaml", MANIFEST]
