"""Exports of replicas that share a GPU and of phases that stand apart: what each target says, or why it cannot."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.check.bind import bound_launches
from planner.check.on_engine import Runtime, engines
from planner.export.launch import ExportError, launches_of
from planner.export.targets import TARGETS, exported_files, write_export
from planner.plan_check import check_plan
from planner.plan_file import Plan
from planner.plan_io import PlanFileError, read_plan, write_plan
from planner.progress import Progress
from planner.replay import planned_market
from planner.runtime.environment import EngineEnvironment
from planner.runtime.errors import EngineError
from tests.planned import EDITED, FOLDER, colocated, disaggregated, edited, mig, planned

HOSTILE = ["a; rm -rf ~ #", "$(touch pwned)", "../../x", "x" * 300, "new\nline"]
PART = re.compile(r"[a-z0-9][-a-z0-9]{0,79}(\.[a-z]+){0,2}")
ON_KUBERNETES = ("kubernetes", "kserve", "dynamo", "llm-d")


def exported(plan: Plan, target: str) -> dict[str, str]:
    return exported_files(plan, target, FOLDER)[0]


def refusal(plan: Plan, target: str) -> str:
    with pytest.raises(ExportError) as found:
        exported(plan, target)
    return str(found.value)


def objects(files: Mapping[str, str], kind: str) -> list[Any]:
    found = [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text)]
    return [one for one in found if one.get("kind") == kind]


@pytest.mark.parametrize("name", EDITED)
def test_the_plans_are_sound_and_are_read_back(name: str, tmp_path: Path) -> None:
    assert check_plan(planned(name)) == []
    write_plan(planned(name), tmp_path / "plan.yaml", tmp_path)
    assert read_plan(tmp_path / "plan.yaml") == planned(name)


def test_the_plan_checker_refuses_what_cannot_be_shared() -> None:
    for plan, said in (
        (colocated({"sm_fraction": 0.7}, {"sm_fraction": 0.4}), "gives out 110% of its GPU"),
        (mig_of("4g.71gb", "4g.71gb"), "4g.71gb + 4g.71gb do not fit on one h200-sxm-141gb"),
        (with_roles("prefill", "prefill", "prefill"), "prefill and decode both"),
        (wide(), "only single GPUs are shared"),
    ):
        assert any(said in fault for fault in check_plan(plan)), (said, check_plan(plan))
        assert said in refusal(plan, "kubernetes")


def test_a_file_of_such_a_plan_is_refused_when_it_is_read(tmp_path: Path) -> None:
    for plan, said in (
        (colocated({"sm_fraction": 0.7}, {"sm_fraction": 0.4}), "gives out 110% of its GPU"),
        (with_roles("decode", "decode", "decode"), "prefill and decode both"),
        (wide(), "only single GPUs are shared"),
    ):
        write_plan(plan, tmp_path / "plan.yaml", tmp_path)
        with pytest.raises(PlanFileError, match=said):
            read_plan(tmp_path / "plan.yaml")


def mig_of(*profiles: str) -> Plan:
    first, second = ({"sm_fraction": 0.5, "mig_profile": profile} for profile in profiles)
    return colocated(first, second)


def with_roles(*roles: str) -> Plan:
    plan = disaggregated()
    (group,) = plan.groups
    some = [one.model_copy(update={"role": role}) for one, role in zip(group.replicas, roles, strict=True)]
    return edited(plan, groups=[group.model_copy(update={"replicas": tuple(some)})])


def wide() -> Plan:
    """Half of every GPU of a tensor-parallel replica."""
    plan = planned("tensor_parallel")
    half = [one.model_copy(update={"sm_fraction": 0.5}) for one in plan.groups[0].replicas]
    return edited(plan, groups=[plan.groups[0].model_copy(update={"replicas": tuple(half)}), *plan.groups[1:]])


@pytest.mark.parametrize("target", ["vllm", "triton"])
def test_every_replica_is_a_process_with_its_share_and_its_routes(target: str) -> None:
    files = exported(colocated(), target)
    entries = json.loads(files["launch.json"])
    assert [entry["env"] for entry in entries[:2]] == [
        {"CUDA_VISIBLE_DEVICES": "0", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}
    ] * 2
    assert len({entry["port"] for entry in entries}) == len({entry["group"] for entry in entries}) == 4
    model_of = {one.label: one.model for one in launches_of(colocated(), FOLDER).launches}
    for workload, entry in json.loads(files["routes.json"]).items():
        assert [route["weight_fraction"] for route in entry["routes"]] == [0.5, 0.5]
        assert {model_of[route["replica"]] for route in entry["routes"]} == {workload}


def test_a_replica_is_limited_to_its_memory() -> None:
    for one in launches_of(colocated(), FOLDER).launches:
        assert one.replica.engine is not None
        assert one.arguments["kv-cache-memory-bytes"] == one.replica.engine.kv_cache_memory_bytes
        assert one.arguments["gpu-memory-utilization"] == 0.45


def started(files: Mapping[str, str], folder: Path, node: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """launch.sh with a vllm that only says what it was given."""
    write_export(files, folder / "deploy")
    (folder / "bin").mkdir()
    (folder / "bin" / "vllm").write_text(
        '#!/bin/sh\necho "$CUDA_MPS_ACTIVE_THREAD_PERCENTAGE $VLLM_NIXL_SIDE_CHANNEL_PORT $4"\n'
    )
    (folder / "bin" / "vllm").chmod(0o755)
    return subprocess.run(
        ["sh", "launch.sh", node],
        cwd=folder / "deploy",
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_starts_without_the_mps_daemon(tmp_path: Path) -> None:
    files = exported(colocated(), "vllm")
    assert "nvidia-cuda-mps-control -d has to run" in files["launch.sh"]
    pipes = tmp_path / "pipes"
    missing, there = tmp_path / "missing", tmp_path / "there"
    for folder in (pipes, missing, there):
        folder.mkdir()
    done = started(files, missing, "h200-0", CUDA_MPS_PIPE_DIRECTORY=str(pipes))
    assert done.returncode == 1 and "no MPS control daemon runs here" in done.stderr and not done.stdout
    (pipes / "control").touch()
    done = started(files, there, "h200-0", CUDA_MPS_PIPE_DIRECTORY=str(pipes))
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["50"] * 4


def test_phases_on_several_nodes_need_their_addresses(tmp_path: Path) -> None:
    files = exported(disaggregated(), "vllm")
    missing, there = tmp_path / "missing", tmp_path / "there"
    missing.mkdir()
    there.mkdir()
    done = started(files, missing, "h100-0")
    assert done.returncode != 0 and "set it to the address of this one" in done.stderr and not done.stdout
    done = started(files, there, "h100-0", VLLM_NIXL_SIDE_CHANNEL_HOST="10.0.0.1")
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["5600", "5601"]


def test_phases_hand_on_the_cache_behind_a_proxy() -> None:
    files = exported(disaggregated(), "vllm")
    assert "a proxy in front of them" in files["launch.sh"]
    configs = {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in files.items() if "yaml" in name}
    transfers = {name: json.loads(config["kv-transfer-config"]) for name, config in configs.items()}
    assert {one["kv_connector"] for one in transfers.values()} == {"NixlConnector"}
    routes = json.loads(files["routes.json"])["assistant"]["routes"]
    assert [set(route) >= {"prefill", "decode", "weight_fraction"} for route in routes] == [True]
    by_role = {role: [one["replica"] for one in routes[0][role]] for role in ("prefill", "decode")}
    assert {role: len(some) for role, some in by_role.items()} == {"prefill": 1, "decode": 2}
    assert all(transfers[name]["kv_role"] == "kv_producer" for name in by_role["prefill"])
    assert all(transfers[name]["kv_role"] == "kv_consumer" for name in by_role["decode"])


def test_dynamo_has_a_component_for_each_phase() -> None:
    (graph,) = objects(exported(disaggregated(), "dynamo"), "DynamoGraphDeployment")
    components = {one["name"]: one for one in graph["spec"]["components"]}
    assert {name: (one["type"], one["replicas"]) for name, one in components.items()} == {
        "Frontend": ("frontend", 1),
        "prefill": ("prefill", 1),
        "decode": ("decode", 2),
    }
    for role in ("prefill", "decode"):
        words = components[role]["podTemplate"]["spec"]["containers"][0]["args"]
        assert words[words.index("--disaggregation-mode") + 1] == role
        assert words.count("--kv-transfer-config") == 1
    (routes,) = objects(exported(disaggregated(), "dynamo"), "ConfigMap")
    (route,) = json.loads(routes["data"]["routes.json"])["assistant"]["routes"]
    assert route["service"] == graph["metadata"]["name"] + "-frontend" and route["weight_fraction"] == 1.0


def test_compose_reaches_the_daemon_of_its_node() -> None:
    (text,) = (text for name, text in exported(colocated(), "compose").items() if name.endswith(".yaml"))
    assert "nvidia-cuda-mps-control -d has to run on the node" in text
    for service in yaml.safe_load(text)["services"].values():
        assert service["ipc"] == "host" and "shm_size" not in service
        assert service["environment"]["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"
        pipes = service["environment"]["CUDA_MPS_PIPE_DIRECTORY"]
        assert pipes in {volume["target"] for volume in service["volumes"]}


@pytest.mark.parametrize("target", ON_KUBERNETES)
def test_the_device_plugin_is_asked_for_what_it_gives(target: str) -> None:
    for plan, resources, config in (
        (colocated(), {"nvidia.com/gpu.shared"}, "mps-2"),
        (mig(), {"nvidia.com/mig-4g.71gb", "nvidia.com/mig-3g.71gb"}, "mig-mixed"),
    ):
        files = exported(plan, target)
        pods = list(pods_of(files))
        assert {name for pod in pods for name in pod["containers"][0]["resources"]["limits"]} == resources
        for pod in pods:
            (terms,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
                "nodeSelectorTerms"
            ]
            assert {"key": "nvidia.com/device-plugin.config", "operator": "In", "values": [config]} in terms[
                "matchExpressions"
            ]
            # The device plugin mounts its own /dev/shm: a second mount there would stop the pod.
            paths = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            # Dynamo's operator mounts it for all, unless told not to.
            assert ("/dev/shm" in paths) == (config == "mig-mixed" and target != "dynamo")
            assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= {
                volume["name"] for volume in pod["volumes"]
            }
        for component in (c for g in objects(files, "DynamoGraphDeployment") for c in g["spec"]["components"][1:]):
            assert component["sharedMemorySize"] == ("16Gi" if config == "mig-mixed" else "0")
        (plugin,) = (one for one in objects(files, "ConfigMap") if "default" in one["data"])
        assert set(plugin["data"]) == {"default", config}
        assert f"nvidia.com/device-plugin.config={config}" in files[plugin["metadata"]["name"] + ".yaml"]


def test_the_plugin_config_shares_every_gpu_by_as_many() -> None:
    (plugin,) = (one for one in objects(exported(colocated(), "kubernetes"), "ConfigMap") if "default" in one["data"])
    assert yaml.safe_load(plugin["data"]["mps-2"]) == {
        "version": "v1",
        "sharing": {"mps": {"renameByDefault": True, "resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}},
    }
    files = exported(mig(), "kubernetes")
    (plugin,) = (one for one in objects(files, "ConfigMap") if "default" in one["data"])
    assert yaml.safe_load(plugin["data"]["mig-mixed"]) == {"version": "v1", "flags": {"migStrategy": "mixed"}}
    assert "2 GPUs cut into 3g.71gb + 4g.71gb" in files[plugin["metadata"]["name"] + ".yaml"]
    assert not [
        one for one in objects(exported(planned("chat"), "kubernetes"), "ConfigMap") if "default" in one["data"]
    ]


def pods_of(files: Mapping[str, str]) -> list[Any]:
    """The specs of all pods with a GPU."""
    found = [one["spec"]["template"]["spec"] for one in objects(files, "Deployment")]
    found += [one["spec"]["predictor"] for one in objects(files, "InferenceService")]
    graphs = [c for one in objects(files, "DynamoGraphDeployment") for c in one["spec"]["components"]]
    return found + [c["podTemplate"]["spec"] for c in graphs if c["type"] != "frontend"]


def on_gpus(*replicas: tuple[int, float]) -> Plan:
    """Dedicated groups of one node by (GPU, share), in small memory."""
    plan = colocated()
    first, gpu = plan.groups[0], plan.groups[0].gpu_ids[0]
    engine = first.replicas[0].engine
    assert engine is not None
    small = {"memory_bytes": 20_000_000_000, "engine": engine.model_copy(update={"gpu_memory_utilization": 0.3})}
    groups = [
        first.model_copy(
            update={
                "id": f"g{number}",
                "queue": f"q{number}",
                "kind": "dedicated",
                "gpu_ids": (gpu.model_copy(update={"index": index}),),
                "replicas": (first.replicas[0].model_copy(update={**small, "sm_fraction": share}),),
            }
        )
        for number, (index, share) in enumerate(replicas)
    ]
    return edited(plan, groups=groups, routes={"talk": [{"group": "g0", "weight_fraction": 1.0}]})


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (
            colocated({"sm_fraction": 0.6}, {"sm_fraction": 0.4}),
            "has 60% of its GPU, and NVIDIA's device plugin gives equal",
        ),
        (colocated({"sm_fraction": 0.5}, {"sm_fraction": 0.5, "memory_bytes": 80_000_000_000}), "limits each of the 2"),
        (
            on_gpus((0, 0.5)),
            "50% of its GPU, and NVIDIA's device plugin gives equal shares only: 100% to each of the 1",
        ),
        (on_gpus((0, 1.0), (0, 1.0)), "has 100% of its GPU"),
        (on_gpus((0, 0.5), (0, 0.5), (1, 1.0)), "h200-0 has GPUs that are shared and others that are not"),
        (on_gpus((0, 0.5), (0, 0.5), (1, 1 / 3), (1, 1 / 3), (1, 1 / 3)), "or not by as many"),
    ],
)
@pytest.mark.parametrize("target", ON_KUBERNETES)
def test_kubernetes_refuses_what_the_device_plugin_does_not_give(plan: Plan, said: str, target: str) -> None:
    assert said in refusal(plan, target)
    assert exported(plan, "vllm")


def test_memory_and_shares_go_together_on_a_gpu() -> None:
    assert "sum to 1.5" in refusal(on_gpus((0, 0.5), (0, 1.0)), "vllm")
    big = {"sm_fraction": 0.5, "memory_bytes": 90_000_000_000}
    assert "its replicas need 180000000000 bytes, h200-sxm-141gb shows 150407741440" in refusal(
        colocated(big, big), "vllm"
    )
    greedy = colocated()
    engine = greedy.groups[0].replicas[0].engine
    assert engine is not None
    most = {"sm_fraction": 0.5, "engine": engine.model_copy(update={"gpu_memory_utilization": 0.9})}
    assert "vLLM wants that part of the memory free" in refusal(colocated(most, {"sm_fraction": 0.5}), "vllm")
    some = [g.model_copy(update={"gpu": "mi300x-192gb"}) for g in greedy.groups]
    spec: Any = json.loads(json.dumps(greedy.spec))
    spec["cluster"]["pools"][0]["gpu"] = "mi300x-192gb"
    assert "mi300x-192gb has neither MPS nor MIG" in refusal(edited(greedy, groups=some, spec=spec), "vllm")


def test_mig_profiles_are_those_of_the_gpu() -> None:
    for target in ON_KUBERNETES:
        said = refusal(mig_of("3g.40gb", "4g.71gb"), target)
        assert "h200-sxm-141gb has no MIG profile '3g.40gb': 1g.18gb, 1g.35gb, 2g.35gb, 3g.71gb" in said
    assert "do not fit on one h200-sxm-141gb" in refusal(mig_of("4g.71gb", "4g.71gb"), "kubernetes")
    for target in sorted(set(TARGETS) - set(ON_KUBERNETES)):
        assert "a MIG instance is called by its UUID, which a plan does not know" in refusal(mig(), target)


def test_copies_of_a_queue_have_to_be_alike() -> None:
    plan = colocated()
    first, second = plan.groups
    odd = second.replicas[0].engine
    assert odd is not None
    other = second.replicas[0].model_copy(update={"engine": odd.model_copy(update={"max_num_seqs": 7})})
    groups = [first, second.model_copy(update={"replicas": (other, second.replicas[1])})]
    assert "differs from other replicas of its queue" in refusal(edited(plan, groups=groups), "kubernetes")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_harmless(name: str, target: str, tmp_path: Path) -> None:
    for plan in (colocated(), mig(), disaggregated()):
        data = plan.model_dump(mode="json")
        for number, group in enumerate(data["groups"]):
            group["id"], group["queue"] = f"{name}{number}", name
            for gpu in group["gpu_ids"]:
                gpu["node"] = name
        for routes in data["routes"].values():
            for number, route in enumerate(routes):
                route["group"] = f"{name}{number}"
        try:
            files = exported(Plan.model_validate(data), target)
        except ExportError:
            continue
        for file, text in files.items():
            assert all(PART.fullmatch(part) for part in Path(file).parts), file
            if file.endswith(".yaml"):
                list(yaml.safe_load_all(text))
            elif file.endswith(".json"):
                json.loads(text)


def test_the_simulator_says_what_it_does_not_know() -> None:
    for plan, kind in ((colocated(), "colocated"), (disaggregated(), "disaggregated")):
        with pytest.raises(PlanFileError, match=f"is {kind}: only dedicated groups are simulated yet"):
            planned_market(plan, FOLDER, Progress())


def test_a_check_starts_no_share_without_the_mps_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    (bound, *_), _ = bound_launches(launches_of(colocated(), FOLDER), 2, node=None, groups=(), first_port=9000)
    runtime = Runtime(
        environment=EngineEnvironment(python=tmp_path / "python", version="0.32.0", device="gpu"),
        logs=tmp_path,
        dummy_weights=True,
        process_bytes=0,
        cancelled=lambda: False,
    )
    with (
        pytest.raises(EngineError, match="has 50 % of its GPU, and no MPS control daemon runs here"),
        engines([bound], {bound.launch.group.id: 100}, runtime, Progress()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_mig_profile_with_an_odd_name_is_refused() -> None:
    for name in ("$(touch pwned)", "3g.71gb\nx: y", "a;b"):
        assert "has no MIG profile" in refusal(mig_of(name, "4g.71gb"), "kubernetes")
