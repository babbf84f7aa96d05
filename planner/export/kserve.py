"""KServe: an InferenceService of fixed size for every queue, with vLLM's own server as its container."""

from collections.abc import Sequence

from planner.export import kubernetes, pods
from planner.export.devices import device_of
from planner.export.launch import Launch, Launches
from planner.export.pods import Object

CONTAINER = "kserve-container"
HEADER = """\
# Replicas of {model}: {copies}. KServe spreads requests blindly; the plan counts on a router in
# front that follows {routes}.yaml.
"""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text, as for Kubernetes; ExportError as there."""
    return kubernetes.files_with(launched, HEADER, _manifests, "-predictor")


def _manifests(launched: Launches, label: str, copies: Sequence[Launch]) -> list[Object]:
    service = pods.named("serving.kserve.io/v1beta1", "InferenceService", label, copies[0])
    # A plain Deployment without an autoscaler: the plan is of fixed size and buys no GPUs for a surge.
    service["metadata"]["annotations"] = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "none",
    }
    template = pods.template(launched, label, copies)
    device = device_of(copies[0].group.gpu, launched.engine_version)
    predictor = {
        "minReplicas": len(copies),
        "maxReplicas": len(copies),
        "deploymentStrategy": kubernetes.rollout(),
        "labels": template["metadata"]["labels"],
        "annotations": template["metadata"]["annotations"],
        **template["spec"],
        "containers": [pods.server(copies[0], device, CONTAINER)],
    }
    service["spec"] = {"predictor": predictor}
    return [pods.config_map(label, copies[0]), service, kubernetes.disruption_budget(label, copies[0])]
