"""Kubernetes manifests: a Deployment, Service, ConfigMap and disruption budget for every queue."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import yaml

from planner.export.launch import ExportError, Launch, Launches

PORT = 8000
IMAGE = "vllm/vllm-openai:v0.24.0"
LOAD_BYTES_PER_S = 200_000_000
LEAST_START_S = 300
PROBE_S = 10
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
}
"""Values of the label nvidia.com/gpu.product as NVIDIA's GPU feature discovery writes them."""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: one manifest file for every queue."""
    queues: dict[str, list[Launch]] = {}
    for one in launched.launches:
        queues.setdefault(one.queue_label, []).append(one)
    return {f"{label}.yaml": _text(manifests(label, some)) for label, some in queues.items()}


def _text(objects: Sequence[dict[str, Any]]) -> str:
    return str(yaml.safe_dump_all(objects, sort_keys=False, explicit_start=True))


def manifests(label: str, copies: Sequence[Launch]) -> list[dict[str, Any]]:
    """ConfigMap, Deployment, Service and PodDisruptionBudget of one queue."""
    first = copies[0]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(label, first),
            "data": {"vllm.yaml": _config(first)},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(label, first),
            "spec": {
                "replicas": len(copies),
                "selector": {"matchLabels": _selector(label)},
                # A surge would need GPUs that the plan does not buy: one replica goes before its successor comes.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "template": {"metadata": {"labels": _labels(label, first)}, "spec": _pod(label, copies)},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(label, first),
            "spec": {
                "selector": _selector(label),
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(label, first),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector(label)}},
        },
    ]


def _metadata(label: str, one: Launch) -> dict[str, Any]:
    return {"name": label, "labels": _labels(label, one)}


def _selector(label: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": label}


def _labels(label: str, one: Launch) -> dict[str, str]:
    return {**_selector(label), "app.kubernetes.io/part-of": "muxplan", "muxplan/model": one.model[:63]}


def _config(one: Launch) -> str:
    settings: dict[str, object] = {"model": one.source, "host": "0.0.0.0", "port": PORT}
    for name, value in one.arguments.items():
        settings[f"no-{name}" if value is False else name] = True if value is False else value
    return str(yaml.safe_dump(settings, sort_keys=False))


def _pod(label: str, copies: Sequence[Launch]) -> dict[str, Any]:
    first = copies[0]
    nodes = len({one.node for one in copies})
    pod: dict[str, Any] = {
        "affinity": _affinity(first),
        "containers": [_container(first)],
        "volumes": [
            {"name": "config", "configMap": {"name": label}},
            # Tensor-parallel ranks exchange data through shared memory.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "16Gi"}},
        ],
        "terminationGracePeriodSeconds": 120,
        "automountServiceAccountToken": False,
    }
    if nodes > 1:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": ceil(len(copies) / nodes),
                "minDomains": nodes,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": _selector(label)},
            }
        ]
    return pod


def _affinity(one: Launch) -> dict[str, Any]:
    key, product = _product(one.group.gpu)
    expression = {"key": key, "operator": "In", "values": [product]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _product(gpu: str) -> tuple[str, str]:
    if gpu.startswith("mi300x"):
        return "amd.com/gpu.product-name", "AMD_Instinct_MI300X_OAM"
    product = PRODUCTS.get(gpu)
    if product is None:
        raise ExportError(f"{gpu}: its Kubernetes node label is not known; export to vllm instead.")
    return "nvidia.com/gpu.product", product


def _container(one: Launch) -> dict[str, Any]:
    resource = "amd.com/gpu" if one.group.gpu.startswith("mi300x") else "nvidia.com/gpu"
    gpus = {resource: str(len(one.gpu_indices))}
    start_s = LEAST_START_S + one.weight_bytes // LOAD_BYTES_PER_S
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "name": "engine",
        "image": IMAGE,
        "args": ["--config", "/etc/muxplan/vllm.yaml"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": gpus, "requests": gpus},
        "env": [
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": "hugging-face", "key": "token", "optional": True}},
            }
        ],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/muxplan", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
        "startupProbe": {**health, "periodSeconds": PROBE_S, "failureThreshold": int(start_s) // PROBE_S},
        "readinessProbe": {**health, "periodSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": PROBE_S, "failureThreshold": 3},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
