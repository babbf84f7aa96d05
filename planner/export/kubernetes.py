"""Kubernetes manifests: a Deployment, Service, ConfigMap and disruption budget for every queue, and the routes."""

import json
from collections.abc import Callable, Sequence

from planner.export import device_plugin, pods
from planner.export.labels import labels_of
from planner.export.launch import LEAST_START_S, Launch, Launches
from planner.export.pods import Object
from planner.export.routing_table import by_service
from planner.export.yaml_text import several_text

HEADER = """\
# Replicas of {model}: {copies}. A Service spreads connections blindly; the plan counts on a router in
# front that follows {routes}.yaml.
"""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: one manifest file for every queue, and one ConfigMap with the routes for the gateway.

    ExportError for a GPU whose node label is not known, and for a model that lies on the machine that planned.
    """
    return files_with(launched, HEADER, manifests, "")


Manifests = Callable[[Launches, str, Sequence[Launch]], list[Object]]


def files_with(launched: Launches, header: str, objects: Manifests, service_suffix: str) -> dict[str, str]:
    """One file for every queue with its header and objects, the ConfigMap with the routes, and the device plugin's.

    `service_suffix` is what the target appends to a queue's label to name the service that requests go to.
    """
    device_plugin.check_shares(launched)
    queues = pods.queues_of(launched)
    titles = [f"{launched.name} routes", f"{launched.name} device plugin"]
    labels = labels_of([*queues, *titles])
    routes, plugin = (labels[title] for title in titles)
    found = {}
    for label, some in queues.items():
        head = header.format(copies=len(some), model=some[0].model, routes=routes, label=label)
        found[f"{label}.yaml"] = head + several_text(objects(launched, label, some))
    found[f"{routes}.yaml"] = several_text([_routes(launched, routes, service_suffix)])
    configs = device_plugin.config_map(launched, plugin)
    if configs is not None:
        found[f"{plugin}.yaml"] = configs
    return found


def manifests(launched: Launches, label: str, copies: Sequence[Launch]) -> list[Object]:
    """ConfigMap, Deployment, Service and PodDisruptionBudget of one queue."""
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = {"spec": {"selector": pods.selector(label), "ports": ports}}
    workload, budget = deployment(launched, label, copies), disruption_budget(label, copies[0])
    return [
        pods.config_map(label, copies[0]),
        workload,
        pods.named("v1", "Service", label, copies[0]) | service,
        budget,
    ]


def deployment(launched: Launches, label: str, copies: Sequence[Launch]) -> Object:
    """The Deployment of a queue."""
    spec = {
        "replicas": len(copies),
        "selector": {"matchLabels": pods.selector(label)},
        "strategy": rollout(),
        "progressDeadlineSeconds": copies[0].start_s + LEAST_START_S,
        "template": pods.template(launched, label, copies),
    }
    return pods.named("apps/v1", "Deployment", label, copies[0]) | {"spec": spec}


def rollout() -> Object:
    """A surge would need GPUs that the plan does not buy: one replica goes before its successor comes."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def disruption_budget(label: str, one: Launch) -> Object:
    """At most one replica of the queue goes at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": pods.selector(label)}}
    return pods.named("policy/v1", "PodDisruptionBudget", label, one) | {"spec": spec}


def _routes(launched: Launches, name: str, service_suffix: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "muxplan"}},
        "data": {"routes.json": json.dumps(by_service(launched, service_suffix), indent=2) + "\n"},
    }
