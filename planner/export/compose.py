"""Docker Compose: one file for every node, with a service for each of its replicas."""

import json
from collections.abc import Mapping
from typing import Any

from planner.export import vllm
from planner.export.devices import Device, device_of
from planner.export.labels import labels_of
from planner.export.launch import Launch, Launches
from planner.export.routing_table import by_replica
from planner.export.yaml_text import one_text

PORT = 8000
MODEL_FOLDER = "/model"
DRAIN_S, GRACE_S = 100, 120
"""vLLM drops what it works on when it is stopped, unless it is given time to finish."""
HEADER = """\
# Node {node}: docker compose -f {file} up -d
# routes.json says which share of every workload goes to which replica: a router in front has to do that.
"""
MPS_PIPES = "/tmp/nvidia-mps"
MPS_HEADER = """\
# Services share GPUs by MPS: nvidia-cuda-mps-control -d has to run on the node first, as root, with these pipes.
"""
HEALTH = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=10)"


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: `compose-<node>.yaml` each, and `routes.json`; ExportError for a GPU without an image."""
    nodes = labels_of(one.node for one in launched.launches)
    found = {}
    for node, label in nodes.items():
        here = [one for one in launched.launches if one.node == node]
        name = f"compose-{label}.yaml"
        mps = MPS_HEADER if any(one.mps_percent is not None for one in here) else ""
        found[name] = HEADER.format(node=label, file=name) + mps + one_text(_project(launched, label, here))
    found["routes.json"] = json.dumps(by_replica(launched), indent=2) + "\n"
    return found


def _project(launched: Launches, label: str, here: list[Launch]) -> dict[str, Any]:
    return {
        "name": label,
        "services": {one.label: _service(one, device_of(one.group.gpu, launched.engine_version)) for one in here},
        "configs": {one.label: {"content": _verbatim(_config(one))} for one in here},
        "volumes": {"models": None},
    }


def _config(one: Launch) -> str:
    settings = {**vllm.settings(one, PORT), "shutdown-timeout": DRAIN_S}
    return one_text(settings | {"model": MODEL_FOLDER} if one.local else settings)


def _service(one: Launch, device: Device) -> dict[str, Any]:
    health = {"test": ["CMD", "python3", "-c", HEALTH], "interval": "10s", "timeout": "15s", "retries": 6}
    return {
        "image": device.image,
        "command": ["--config", "/etc/muxplan/vllm.yaml"],
        "configs": [{"source": one.label, "target": "/etc/muxplan/vllm.yaml"}],
        "ports": [f"{one.port}:{PORT}"],
        "volumes": _volumes(one),
        **_memory(one),
        "healthcheck": {**health, "start_period": f"{one.start_s}s"},
        "restart": "unless-stopped",
        "stop_grace_period": f"{GRACE_S}s",
        "security_opt": ["no-new-privileges:true"],
        **_gpus(one, device),
    }


def _memory(one: Launch) -> dict[str, Any]:
    """Tensor-parallel ranks exchange data through shared memory, and clients of MPS with its server on the node."""
    return {"shm_size": "16gb"} if one.mps_percent is None else {"ipc": "host"}


def _volumes(one: Launch) -> list[dict[str, Any]]:
    pipes = [] if one.mps_percent is None else [{"type": "bind", "source": MPS_PIPES, "target": MPS_PIPES}]
    cache = {"type": "volume", "source": "models", "target": "/root/.cache/huggingface"}
    if not one.local:
        return [cache, *pipes]
    return [{"type": "bind", "source": _verbatim(one.source), "target": MODEL_FOLDER, "read_only": True}, *pipes]


def _gpus(one: Launch, device: Device) -> dict[str, Any]:
    """The service's own GPUs: a reservation where Docker knows the GPUs, devices and a variable for AMD's."""
    token: Mapping[str, str] = {"HF_TOKEN": "${HF_TOKEN:-}"}
    if device.amd:
        return {
            "environment": {**token, **vllm.environment(one)},
            "devices": ["/dev/kfd", "/dev/dri"],
            "group_add": ["video"],
            "security_opt": ["no-new-privileges:true", "seccomp=unconfined"],
        }
    ids = [str(index) for index in one.gpu_indices]
    reserved = {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}
    if one.mps_percent is not None:
        share = {"CUDA_MPS_PIPE_DIRECTORY": MPS_PIPES, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": str(one.mps_percent)}
        token = {**token, **share}
    return {"environment": token, "deploy": {"resources": {"reservations": {"devices": [reserved]}}}}


def _verbatim(text: str) -> str:
    """Compose replaces $NAME; $$ stands for the character."""
    return text.replace("$", "$$")
