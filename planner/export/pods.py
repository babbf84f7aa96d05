"""The pods of a queue: what every target that runs on Kubernetes has in common."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from planner.export import device_plugin, vllm
from planner.export.devices import Device, device_of
from planner.export.launch import ExportError, Launch, Launches, needs_no_local_files
from planner.export.yaml_text import one_text

PORT = 8000
PROBE_S = 10
PROBE_TIMEOUT_S = 10
"""The server answers /health from the loop that tokenises prompts: a busy one takes its time."""
SECRET = "hugging-face"
LEAVE_S, DRAIN_S, GRACE_S = 15, 90, 120
"""A pod that goes still gets requests until every router has heard of it. Then vLLM has time to finish its work, which
it drops otherwise. Both fit into the grace period."""
DISK_SLACK = 1.2
CACHE = "/cache"
SHM, SHARED_MEMORY = "shm", "16Gi"

Object = dict[str, Any]


def queues_of(launched: Launches) -> dict[str, list[Launch]]:
    """Queue label → its copies, in the order of the plan. ExportError where copies of one thing differ."""
    found: dict[str, list[Launch]] = {}
    for one in launched.launches:
        found.setdefault(one.queue_label, []).append(one)
    for copies in found.values():
        kinds = {one.replica.role: _kind(one) for one in copies}
        odd = next((one for one in copies if _kind(one) != kinds[one.replica.role]), None)
        if odd is not None:
            raise ExportError(f"{odd.group.id} differs from other replicas of its queue {odd.group.queue}.")
    return found


def _kind(one: Launch) -> tuple[object, ...]:
    """What makes a replica the copy of another."""
    share = (one.replica.sm_fraction, one.replica.mig_profile)
    return one.model, one.source, dict(one.arguments), len(one.gpu_indices), one.group.gpu, share


def named(version: str, kind: str, name: str, one: Launch) -> Object:
    """The head of an object of a queue."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels(name, one)}}


def selector(name: str) -> dict[str, str]:
    """The label that the pods of a queue, and only they, carry."""
    return {"app.kubernetes.io/name": name}


def labels(name: str, one: Launch) -> dict[str, str]:
    """The labels of a queue's objects and pods."""
    return {**selector(name), "app.kubernetes.io/part-of": "muxplan", "muxplan/model": one.model}


def config_map(name: str, one: Launch) -> Object:
    """The ConfigMap with vLLM's config file; ExportError for a model that lies on the machine that planned."""
    return named("v1", "ConfigMap", name, one) | {"data": {"vllm.yaml": config_text(one)}}


def config_text(one: Launch) -> str:
    """vLLM's config file as a pod reads it; ExportError for a model that lies on the machine that planned."""
    needs_no_local_files(one, "a pod")
    return one_text({**vllm.settings(one, PORT), "shutdown-timeout": DRAIN_S})


def template(launched: Launches, name: str, copies: Sequence[Launch]) -> Object:
    """The pod template of a queue that serves with vLLM's own server and reads the queue's ConfigMap."""
    first = copies[0]
    # Pods do not notice a changed ConfigMap: a changed digest replaces them.
    digest = hashlib.sha256(config_text(first).encode()).hexdigest()[:16]
    return {
        "metadata": {"labels": labels(name, first), "annotations": {"muxplan/config": digest}},
        "spec": pod(launched, name, copies, server(first, device_of(first.group.gpu, launched.engine_version))),
    }


def pod(launched: Launches, name: str, copies: Sequence[Launch], container: Object) -> Object:
    """The pod's spec around the container of an engine; the ConfigMap of the queue is its volume `config`."""
    device = device_of(copies[0].group.gpu, launched.engine_version)
    found: Object = {
        "affinity": _affinity(launched, copies[0], device),
        "tolerations": [{"key": device.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}, *_volumes(copies[0])],
        "securityContext": {"seccompProfile": {"type": device.seccomp}},
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        # A Service called vllm would set VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
    }
    return found | _spread(name, Counter(one.node for one in copies))


def _volumes(one: Launch) -> list[Object]:
    # A container that starts again does not load its model anew.
    cache = {"name": "cache", "emptyDir": {}}
    # Tensor-parallel ranks exchange data through shared memory.
    shm = {"name": SHM, "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}}
    return [cache] if one.mps_percent is not None else [shm, cache]


def mounts(one: Launch) -> list[Object]:
    """The mounts of every engine; under MPS the device plugin mounts its own shared memory."""
    found = [{"name": SHM, "mountPath": "/dev/shm"}, {"name": "cache", "mountPath": CACHE}]
    return found[1:] if one.mps_percent is not None else found


def server(one: Launch, device: Device, name: str = "engine") -> Object:
    """The container of vLLM's OpenAI server."""
    health = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": PROBE_TIMEOUT_S}
    return {
        "name": name,
        "image": device.image,
        "args": ["--config", "/etc/muxplan/vllm.yaml"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": resources(one, device),
        "env": environment(),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/muxplan", "readOnly": True}, *mounts(one)],
        "startupProbe": {**health, **start_budget(one)},
        "readinessProbe": {**health, "periodSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": PROBE_S, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
        "securityContext": CONTAINER_SECURITY,
    }


CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def resources(one: Launch, device: Device) -> Object:
    """The replica's GPUs as the device plugin counts them; a core for each process (server, scheduler, a worker for
    every GPU), without which the GPU waits; and disk for the checkpoint.
    """
    gpus = {device_plugin.resource(one, device): str(len(one.gpu_indices))}
    disk = f"{ceil(DISK_SLACK * one.checkpoint_bytes / 2**30)}Gi"
    return {
        "limits": gpus,
        "requests": {**gpus, "cpu": str(2 + len(one.gpu_indices)), "ephemeral-storage": disk},
    }


def environment() -> list[Object]:
    """The Hugging Face token, from a Secret that need not exist, and where downloads go."""
    secret = {"name": SECRET, "key": "token", "optional": True}
    return [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}},
        {"name": "HF_HOME", "value": f"{CACHE}/huggingface"},
    ]


def start_budget(one: Launch) -> dict[str, int]:
    """Period and number of start-up probes that give the replica the time to load."""
    return {"periodSeconds": PROBE_S, "failureThreshold": -(-one.start_s // PROBE_S)}


def _spread(name: str, per_node: Mapping[str, int]) -> Object:
    """At least as many nodes as the plan uses, none with more copies than the plan's fullest (given GPUs to spare)."""
    if len(per_node) < 2:
        return {}
    constraint = {
        "maxSkew": max(per_node.values()),
        "minDomains": len(per_node),
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": selector(name)},
    }
    return {"topologySpreadConstraints": [constraint]}


def _affinity(launched: Launches, one: Launch, device: Device) -> Object:
    """The nodes of the pool: by GPU, how it is shared, and a label of ours where two pools have the same GPU."""
    expressions = [{"key": device.label, "operator": "In", "values": [device.product]}]
    if len(launched.pools_of_gpu[one.group.gpu]) > 1:
        expressions.append({"key": "muxplan/pool", "operator": "In", "values": [one.group.pool]})
    config = device_plugin.config_of(launched, one)
    if config is not None:
        expressions.append({"key": device_plugin.CONFIG_LABEL, "operator": "In", "values": [config]})
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
