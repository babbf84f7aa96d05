"""llm-d: model servers as Deployments, and the values of the router chart in front of every queue."""

from collections.abc import Sequence

from planner.export import kubernetes, pods
from planner.export.launch import Launch, Launches
from planner.export.pods import Object
from planner.export.yaml_text import one_text

HEADER = """\
# Replicas of {model}: {copies}. The router in front of them is installed from {label}.values.yaml;
# {routes}.yaml says which share of every workload goes to which router.
"""
VALUES_HEADER = """\
# unvalidated: no registry holds a schema of this chart's values.
# helm install {label} oci://registry.k8s.io/gateway-api-inference-extension/charts/standalone -f {label}.values.yaml
"""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: manifests as for Kubernetes, and `<label>.values.yaml`; ExportError as there."""
    found = kubernetes.files_with(launched, HEADER, _manifests, "-epp")
    for label in pods.queues_of(launched):
        found[f"{label}.values.yaml"] = VALUES_HEADER.format(label=label) + one_text(_values(label))
    return found


def _manifests(launched: Launches, label: str, copies: Sequence[Launch]) -> list[Object]:
    return [
        pods.config_map(label, copies[0]),
        kubernetes.deployment(launched, label, copies),
        kubernetes.disruption_budget(label, copies[0]),
    ]


def _values(label: str) -> Object:
    pool = {
        "targetPorts": [{"number": pods.PORT}],
        "modelServerType": "vllm",
        "modelServers": {"matchLabels": pods.selector(label)},
    }
    return {"inferencePool": pool}
