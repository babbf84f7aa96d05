"""Kubernetes manifests against the API's own schemas, by kubernetes-validate where it is installed."""

from collections.abc import Mapping
from importlib.util import find_spec

import yaml

from planner.export.launch import ExportError

KUBERNETES_VERSION = "1.37"
INSTALL = "pip install kubernetes-validate"


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
        for one in yaml.safe_load_all(text):
            try:
                kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
            except (
                kubernetes_validate.ValidationError,
                kubernetes_validate.InvalidSchemaError,
                kubernetes_validate.SchemaNotFoundError,
            ) as error:
                found.append(f"{name}: {str(getattr(error, 'message', error)).splitlines()[0][:200]}")
    return found
