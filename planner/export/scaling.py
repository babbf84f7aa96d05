"""Autoscalers for the Kubernetes target: they give up replicas in quiet hours and never ask for more than the plan."""

from collections.abc import Callable, Mapping, Sequence

from planner.export import pods
from planner.export.launch import ExportError, Launch, Launches
from planner.export.pods import Object
from planner.export.yaml_text import several_text

PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
LONGEST_WINDOW_S = 3600
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
HPA_HEADER = """\
# The metrics API has to serve vllm:num_requests_running for pods, under this name (prometheus-adapter with a rule that
# renames it needs that name here).
"""
KEDA_HEADER = """\
# serverAddress is that of a Prometheus that scrapes port http of the pods labelled app.kubernetes.io/part-of: muxplan,
# and labels what it finds with the name of the pod; where several namespaces run the plan, add namespace to the query.
"""


def files(launched: Launches, kind: str) -> dict[str, str]:
    """`<label>-scaling.yaml` for every queue of several replicas; `kind` is hpa or keda.

    A replica is to hold as many requests as it does on average in the plan. ExportError for another kind, and when
    the plan gives no latency to reckon that from.
    """
    if kind not in KINDS:
        raise ExportError(f"there is no autoscaler '{kind[:40]}': {', '.join(KINDS)}.")
    header, scaler = KINDS[kind]
    found = {}
    for label, copies in pods.queues_of(launched).items():
        if len(copies) < 2:
            continue
        if not launched.in_flight.get(label):
            raise ExportError(f"{copies[0].model}: the plan gives it no latency, so its replicas cannot be scaled.")
        one = scaler(label, copies, launched.in_flight[label])
        one["metadata"] = {"name": label, "labels": pods.labels(label, copies[0])}
        found[f"{label}-scaling.yaml"] = header + several_text([one])
    return found


def _behavior(one: Launch) -> Object:
    """What goes takes its whole start to come back: nothing goes before it was idle for as long."""
    return {"scaleDown": {"stabilizationWindowSeconds": min(one.start_s, LONGEST_WINDOW_S)}}


def _hpa(label: str, copies: Sequence[Launch], in_flight: float) -> Object:
    target = {"type": "AverageValue", "averageValue": f"{max(1, round(in_flight * 1000))}m"}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": label},
        "minReplicas": 1,
        "maxReplicas": len(copies),
        "metrics": [{"type": "Pods", "pods": {"metric": {"name": RUNNING}, "target": target}}],
        "behavior": _behavior(copies[0]),
    }
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {}, "spec": spec}


def _keda(label: str, copies: Sequence[Launch], in_flight: float) -> Object:
    # Names of pods end in the hash of their ReplicaSet and one of their own: no queue's name may match another's pods.
    chosen = f'{{pod=~"{label}-[a-z0-9]+-[a-z0-9]{{5}}"}}'
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": PROMETHEUS,
            "query": f"sum({RUNNING}{chosen}) + sum({WAITING}{chosen})",
            "threshold": f"{max(in_flight, 0.001):.3f}",
        },
    }
    spec = {
        "scaleTargetRef": {"name": label},
        "minReplicaCount": 1,
        "maxReplicaCount": len(copies),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(copies[0])}},
        "triggers": [trigger],
    }
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {}, "spec": spec}


Scaler = Callable[[str, Sequence[Launch], float], Object]
KINDS: Mapping[str, tuple[str, Scaler]] = {"hpa": (HPA_HEADER, _hpa), "keda": (KEDA_HEADER, _keda)}
