"""NVIDIA Dynamo: a DynamoGraphDeployment for every queue, with a frontend and its workers."""

import json
from collections.abc import Sequence
from dataclasses import replace

from planner.export import kubernetes, pods
from planner.export.devices import Device, device_of
from planner.export.labels import labels_of
from planner.export.launch import ExportError, Launch, Launches, needs_no_local_files
from planner.export.pods import Object
from planner.export.vllm_arguments import KV_CONNECTOR

IMAGE = "nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.6.1"
SYSTEM_PORT = 9090
NAME_LENGTH = 32
"""Dynamo's operator puts the component's name and more behind that of the deployment, within 45 characters."""
ROLES = {"both": "worker", "prefill": "prefill", "decode": "decode"}
"""What Dynamo calls a component that does these phases: its type, and its name here."""
HEADER = """\
# unvalidated: no registry holds the schema of nvidia.com/v1beta1; the pods in it are Kubernetes' own.
# Workers of {model}: {copies}; {routes}.yaml says which share of every workload goes to which frontend.
# The image brings its own vLLM, which may be newer than the one that was planned for.
"""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text, as for Kubernetes; ExportError as there, and for GPUs that are not NVIDIA's."""
    short = labels_of(map(_graph, launched.launches), NAME_LENGTH)
    launches = tuple(replace(one, queue_label=short[_graph(one)]) for one in launched.launches)
    return kubernetes.files_with(replace(launched, launches=launches), HEADER, _manifests, "-frontend")


def _graph(one: Launch) -> str:
    """One deployment holds both phases of a queue; a queue's label, which has no spaces, is nothing else's name."""
    return one.queue_label if one.replica.role == "both" else f"{one.whole.queue} phases"


def _manifests(launched: Launches, label: str, copies: Sequence[Launch]) -> list[Object]:
    first = copies[0]
    device = device_of(first.group.gpu, launched.engine_version)
    if device.amd:
        raise ExportError(f"{first.group.gpu}: NVIDIA Dynamo runs on NVIDIA's GPUs only.")
    needs_no_local_files(first, "a pod")
    graph = pods.named("nvidia.com/v1beta1", "DynamoGraphDeployment", label, first)
    by_role = {role: [one for one in copies if one.replica.role == role] for role in ROLES}
    workers = [_worker(launched, label, some, device) for some in by_role.values() if some]
    graph["spec"] = {"components": [_frontend(), *workers]}
    return [graph]


def _frontend() -> Object:
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["python3"],
        "args": ["-m", "dynamo.frontend"],
        "securityContext": pods.CONTAINER_SECURITY,
    }
    return {"name": "Frontend", "type": "frontend", "replicas": 1, "podTemplate": {"spec": {"containers": [container]}}}


def _worker(launched: Launches, label: str, copies: Sequence[Launch], device: Device) -> Object:
    first = copies[0]
    role = ROLES[first.replica.role]
    name = label if role == "worker" else f"{label}-{role}"
    spec = pods.pod(launched, name, copies, _engine(first, device))
    # The operator mounts shared memory itself (8Gi unless told otherwise) and drops ours; under MPS the plugin does.
    memory = pods.SHARED_MEMORY if first.mps_percent is None else "0"
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] not in ("config", pods.SHM)]
    template = {"metadata": {"labels": pods.labels(name, first)}, "spec": spec}
    return {
        "name": role,
        "type": role,
        "replicas": len(copies),
        "sharedMemorySize": memory,
        "podTemplate": template,
    }


def _engine(one: Launch, device: Device) -> Object:
    return {
        "name": "main",
        "image": IMAGE,
        "command": ["python3", "-m", "dynamo.vllm"],
        "args": [*flags(one), *_own_flags(one)],
        "env": [*pods.environment(), {"name": "DYN_SYSTEM_PORT", "value": str(SYSTEM_PORT)}],
        "resources": pods.resources(one, device),
        "volumeMounts": [mount for mount in pods.mounts(one) if mount["name"] != pods.SHM],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": SYSTEM_PORT},
            "timeoutSeconds": pods.PROBE_TIMEOUT_S,
            **pods.start_budget(one),
        },
        "securityContext": pods.CONTAINER_SECURITY,
    }


def _own_flags(one: Launch) -> list[str]:
    """Dynamo's flags beside vLLM's."""
    if one.replica.role != "both":
        # As Dynamo's examples have it for both phases: its own router says who does what.
        transfer = json.dumps({"kv_connector": KV_CONNECTOR, "kv_role": "kv_both"})
        return ["--disaggregation-mode", one.replica.role, "--kv-transfer-config", transfer]
    return ["--embedding-worker"] if one.arguments.get("runner") == "pooling" else []


def flags(one: Launch) -> list[str]:
    """vLLM's settings as the words of a command line, without those of its HTTP server and of the link of phases."""
    found = ["--model", one.source]
    for name, value in one.arguments.items():
        if name == "kv-transfer-config":
            continue
        if value is True:
            found.append(f"--{name}")
        elif value is False:
            found.append(f"--no-{name}")
        else:
            found += [f"--{name}", str(value)]
    return found
