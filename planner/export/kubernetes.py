"""Kubernetes manifests: a Deployment, Service, ConfigMap and disruption budget for every queue, and the routes."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from planner.export import vllm
from planner.export.labels import labels_of
from planner.export.launch import ExportError, Launch, Launches
from planner.export.routing_table import by_service

PORT = 8000
LOAD_BYTES_PER_S = 200_000_000
"""A slow download: what the start-up budget is reckoned with."""
LEAST_START_S = 300
PROBE_S = 10
PROBE_TIMEOUT_S = 10
"""The server answers /health from the loop that tokenises prompts: a busy one takes its time."""
SECRET = "hugging-face"
AMD_PREFIX = "mi300x"
PRODUCTS = {
    "a100-sxm-40gb": "NVIDIA-A100-SXM4-40GB",
    "a100-sxm-80gb": "NVIDIA-A100-SXM4-80GB",
    "h100-sxm-80gb": "NVIDIA-H100-80GB-HBM3",
    "h100-pcie-80gb": "NVIDIA-H100-PCIe",
    "h200-sxm-141gb": "NVIDIA-H200",
    "b200-sxm-180gb": "NVIDIA-B200",
    "l4-24gb": "NVIDIA-L4",
    "l40s-48gb": "NVIDIA-L40S",
    "a10g-24gb": "NVIDIA-A10G",
    "rtx-pro-6000-96gb": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    "v100-sxm-16gb": "Tesla-V100-SXM2-16GB",
    "v100-sxm-32gb": "Tesla-V100-SXM2-32GB",
    "mi300x-192gb": "AMD_Instinct_MI300X_OAM",
}
"""Node labels nvidia.com/gpu.product (GPU feature discovery) and amd.com/gpu.product-name (AMD's node labeller)."""

HEADER = """\
# Replicas of {model}: {copies}. A Service spreads connections blindly; the plan counts on a router in
# front that follows {routes}.yaml.
"""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What Kubernetes calls a GPU: its resource, the node label with its name, the image and its system calls."""

    resource: str
    label: str
    product: str
    image: str
    seccomp: str


class _Dumper(yaml.SafeDumper):
    """Writes every value out (no anchors), and texts of several lines as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text_node)


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: one manifest file for every queue, and one ConfigMap with the routes for the gateway.

    ExportError for a GPU whose node label is not known, and for a model that lies on the machine that planned.
    """
    queues: dict[str, list[Launch]] = {}
    for one in launched.launches:
        queues.setdefault(one.queue_label, []).append(one)
    title = f"{launched.name} routes"
    routes = labels_of([*queues, title])[title]
    found = {}
    for label, some in queues.items():
        header = HEADER.format(copies=len(some), model=some[0].model, routes=routes)
        found[f"{label}.yaml"] = header + _text(manifests(launched, label, some))
    found[f"{routes}.yaml"] = _text([_routes(launched, routes)])
    return found


def _text(objects: Sequence[Object]) -> str:
    return str(yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, explicit_start=True))


def manifests(launched: Launches, label: str, copies: Sequence[Launch]) -> list[Object]:
    """ConfigMap, Deployment, Service and PodDisruptionBudget of one queue."""
    first = copies[0]
    config = _config(first)
    selector = {"matchLabels": _selector(label)}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return [
        _object("v1", "ConfigMap", label, first) | {"data": {"vllm.yaml": config}},
        _object("apps/v1", "Deployment", label, first) | {"spec": _deployment(launched, label, copies, config)},
        _object("v1", "Service", label, first) | {"spec": {"selector": _selector(label), "ports": ports}},
        _object("policy/v1", "PodDisruptionBudget", label, first)
        | {"spec": {"maxUnavailable": 1, "selector": selector}},
    ]


def _object(version: str, kind: str, label: str, one: Launch) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": label, "labels": _labels(label, one)}}


def _selector(label: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": label}


def _labels(label: str, one: Launch) -> dict[str, str]:
    return {**_selector(label), "app.kubernetes.io/part-of": "muxplan", "muxplan/model": one.model}


def _config(one: Launch) -> str:
    if one.local:
        raise ExportError(
            f"{one.model} is read from a folder of this machine, which a pod does not see: export to vllm instead."
        )
    return str(yaml.safe_dump(vllm.settings(one, PORT), sort_keys=False))


def _routes(launched: Launches, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "muxplan"}},
        "data": {"routes.json": json.dumps(by_service(launched), indent=2) + "\n"},
    }


def _deployment(launched: Launches, label: str, copies: Sequence[Launch], config: str) -> Object:
    first = copies[0]
    start_s = LEAST_START_S + first.checkpoint_bytes // LOAD_BYTES_PER_S
    digest = hashlib.sha256(config.encode()).hexdigest()[:16]
    return {
        "replicas": len(copies),
        "selector": {"matchLabels": _selector(label)},
        # A surge would need GPUs that the plan does not buy: one replica goes before its successor comes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "progressDeadlineSeconds": start_s + LEAST_START_S,
        "template": {
            # Pods do not notice a changed ConfigMap: a changed digest replaces them.
            "metadata": {"labels": _labels(label, first), "annotations": {"muxplan/config": digest}},
            "spec": _pod(launched, label, copies, start_s),
        },
    }


def _pod(launched: Launches, label: str, copies: Sequence[Launch], start_s: int) -> Object:
    device = _device(copies[0].group.gpu, launched.engine_version)
    pod: Object = {
        "affinity": _affinity(launched, copies[0], device),
        "tolerations": [{"key": device.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [_container(copies[0], device, start_s)],
        "volumes": [
            {"name": "config", "configMap": {"name": label}},
            # Tensor-parallel ranks exchange data through shared memory.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
        ],
        "securityContext": {"seccompProfile": {"type": device.seccomp}},
        "terminationGracePeriodSeconds": 120,
        "automountServiceAccountToken": False,
        # A Service called vllm would set VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
    }
    return pod | _spread(label, Counter(one.node for one in copies))


def _spread(label: str, per_node: Mapping[str, int]) -> Object:
    """At least as many nodes as the plan uses, none with more copies than the plan's fullest (given GPUs to spare)."""
    if len(per_node) < 2:
        return {}
    constraint = {
        "maxSkew": max(per_node.values()),
        "minDomains": len(per_node),
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": _selector(label)},
    }
    return {"topologySpreadConstraints": [constraint]}


def _affinity(launched: Launches, one: Launch, device: Device) -> Object:
    """The nodes of the pool: by GPU, and by a label of ours where two pools have the same GPU."""
    expressions = [{"key": device.label, "operator": "In", "values": [device.product]}]
    if len(launched.pools_of_gpu[one.group.gpu]) > 1:
        expressions.append({"key": "muxplan/pool", "operator": "In", "values": [one.group.pool]})
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _device(gpu: str, version: str) -> Device:
    product = PRODUCTS.get(gpu)
    if product is None:
        raise ExportError(f"{gpu}: its Kubernetes node label is not known; export to vllm instead.")
    tag = "v" + version + ".0" * (2 - version.count("."))
    if gpu.startswith(AMD_PREFIX):
        # ROCm maps memory between processes with calls that the default profile forbids.
        return Device(
            resource="amd.com/gpu",
            label="amd.com/gpu.product-name",
            product=product,
            image=f"vllm/vllm-openai-rocm:{tag}",
            seccomp="Unconfined",
        )
    return Device(
        resource="nvidia.com/gpu",
        label="nvidia.com/gpu.product",
        product=product,
        image=f"vllm/vllm-openai:{tag}",
        seccomp="RuntimeDefault",
    )


def _container(one: Launch, device: Device, start_s: int) -> Object:
    gpus = {device.resource: str(len(one.gpu_indices))}
    health = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": PROBE_TIMEOUT_S}
    secret = {"name": SECRET, "key": "token", "optional": True}
    return {
        "name": "engine",
        "image": device.image,
        "args": ["--config", "/etc/muxplan/vllm.yaml"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": gpus, "requests": gpus},
        "env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/muxplan", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "startupProbe": {**health, "periodSeconds": PROBE_S, "failureThreshold": -(-start_s // PROBE_S)},
        "readinessProbe": {**health, "periodSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": PROBE_S, "failureThreshold": 6},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
