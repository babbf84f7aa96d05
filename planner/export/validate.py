"""Kubernetes manifests against the API's own schemas, by kubernetes-validate where it is installed.

Of the objects that operators bring (KServe, Dynamo) the pods are looked at: the API's schemas know no more of them.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import yaml

from planner.export.launch import ExportError

KUBERNETES_VERSION = "1.37"
INSTALL = "pip install kubernetes-validate"
PREDICTOR_FIELDS = {"minReplicas", "maxReplicas", "deploymentStrategy", "labels", "annotations"}
"""What KServe adds to a pod's fields in its predictors."""


def can_validate() -> bool:
    """Whether kubernetes-validate is installed."""
    return find_spec("kubernetes_validate") is not None


def manifest_faults(files: Mapping[str, str]) -> list[str]:
    """One sentence for every object that the API would refuse, unknown fields included; empty when all pass.

    ExportError when kubernetes-validate is not installed.
    """
    if not can_validate():
        raise ExportError(f"manifests cannot be validated here: {INSTALL}.")
    import kubernetes_validate  # an optional dependency

    found = []
    for name, text in files.items():
        known = (part for one in yaml.safe_load_all(text) for part in _known(one))
        for one in known:
            try:
                kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
            except (
                kubernetes_validate.ValidationError,
                kubernetes_validate.InvalidSchemaError,
                kubernetes_validate.SchemaNotFoundError,
            ) as error:
                found.append(f"{name}: {str(getattr(error, 'message', error)).splitlines()[0][:200]}")
    return found


def _known(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The object itself where the API knows its kind, else its pods; a file of settings has none."""
    match one.get("kind"):
        case None | "ScaledObject":
            return []
        case "DynamoGraphDeployment":
            return [_pod(component["podTemplate"]["spec"]) for component in one["spec"]["components"]]
        case "InferenceService":
            own = {name: value for name, value in one["spec"]["predictor"].items() if name not in PREDICTOR_FIELDS}
            return [_pod(own)]
        case _:
            return [one]


def _pod(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
