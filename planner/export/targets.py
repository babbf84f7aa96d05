"""Export targets by name, and writing what they give."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from planner.export import compose, dynamo, kserve, kubernetes, llm_d, ray_serve, scaling, triton, vllm
from planner.export.launch import ExportError, Launch, Launches, launches_of
from planner.export.validate import can_validate, manifest_faults
from planner.files import OutputError, atomic_write_text
from planner.plan_file import Plan
from profiles.catalogue_files import nearest

MANIFEST = "muxplan-export.json"
ON_CORES = ("vllm", "ray-serve")
"""Targets that can run an engine on processor cores."""
WITH_PHASES = ("vllm", "dynamo")
"""Targets that can say what a prefill replica and a decode replica need to work together."""
ON_KUBERNETES = ("kubernetes", "kserve", "dynamo", "llm-d")


def exported_files(
    plan: Plan, target: str, folder: Path = Path(), autoscaler: str | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """(relative path → text, models that are left out). Files that the plan names are relative to `folder`.

    ExportError for an unknown target or a plan it cannot take; an autoscaler (hpa, keda) is for kubernetes only.
    """
    if target not in TARGETS:
        raise ExportError(f"there is no target '{target[:40]}': {', '.join(TARGETS)}.{nearest(target, TARGETS)}")
    launched = launches_of(plan, folder)
    if not launched.launches:
        raise ExportError("the plan has no model that an engine can run: all are known only by measurement.")
    if target not in ON_CORES and any(one.device == "cpu" for one in launched.launches):
        raise ExportError(
            f"the plan runs on processor cores, and {target} on GPUs only: {', '.join(ON_CORES)} do both."
        )
    for one in launched.launches:
        reason = _target_refusal(one, target)
        if reason is not None:
            raise ExportError(f"{one.group.id} ({one.model}): {reason}.")
    found = TARGETS[target](launched)
    if autoscaler is not None:
        if target != "kubernetes":
            raise ExportError(f"an autoscaler is exported to kubernetes only, not to {target}.")
        found |= scaling.files(launched, autoscaler)
    return found, launched.left_out


def _target_refusal(one: Launch, target: str) -> str | None:
    """Why a target cannot run a replica that others can; None when nothing stands against it."""
    if one.replica.role != "both" and target not in WITH_PHASES:
        return (
            f"it does {one.replica.role} only, and the proxy and the link between phases are exported to"
            f" {' and '.join(WITH_PHASES)} only"
        )
    if one.replica.mig_profile is not None and target not in ON_KUBERNETES:
        return (
            f"outside Kubernetes a MIG instance is called by its UUID, which a plan does not know:"
            f" {', '.join(ON_KUBERNETES)} ask for {one.replica.mig_profile} by its name"
        )
    if one.mps_percent is not None and target == "ray-serve":
        return (
            f"it has {one.replica.sm_fraction:.0%} of its GPU, and Ray counts parts of a GPU but keeps none to its part"
        )
    return None


def write_export(files: Mapping[str, str], folder: Path) -> None:
    """Write the files, each whole; what an earlier export of ours wrote there and this one does not is removed.

    ExportError when the folder holds files that are not ours.
    """
    foreign = sorted(set(_present(folder)) - set(_ours(folder)) - {MANIFEST})
    if foreign:
        raise ExportError(
            f"{folder} holds {foreign[0]}, which muxplan did not write: choose another folder, or --force."
        )
    write_over(files, folder)


def write_over(files: Mapping[str, str], folder: Path) -> None:
    """Write the files beside whatever the folder holds; only files of our own earlier exports are removed."""
    _make(folder)
    old = _ours(folder)
    # Listed before they are written: an export that is interrupted can be repeated without --force.
    _list(folder, {*old, *files})
    for name, text in files.items():
        path = folder / name
        _make(path.parent)
        atomic_write_text(path, text)
    for name in set(old) - set(files):
        _remove(folder / name)
        _remove_empty(folder, folder / name)
    _list(folder, files)


def _checked(files: Callable[[Launches], dict[str, str]]) -> Callable[[Launches], dict[str, str]]:
    """The manifests, checked against the API's schemas where the validator is installed."""

    def checked(launched: Launches) -> dict[str, str]:
        found = files(launched)
        faults = manifest_faults(found) if can_validate() else []
        if faults:
            raise ExportError(f"the manifests are not what Kubernetes takes: {faults[0]}.")
        return found

    return checked


TARGETS: Mapping[str, Callable[[Launches], dict[str, str]]] = {
    "vllm": vllm.files,
    "compose": compose.files,
    "kubernetes": _checked(kubernetes.files),
    "ray-serve": ray_serve.files,
    "kserve": _checked(kserve.files),
    "dynamo": _checked(dynamo.files),
    "llm-d": _checked(llm_d.files),
    "triton": triton.files,
}


def _list(folder: Path, names: Iterable[str]) -> None:
    atomic_write_text(folder / MANIFEST, json.dumps(sorted(names), indent=2) + "\n")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}.") from error


def _remove_empty(folder: Path, path: Path) -> None:
    """The folders between that hold nothing any more."""
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            return
        parent.rmdir()


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}.") from error


def _present(folder: Path) -> list[str]:
    """What lies in the folder and below it, as relative paths."""
    try:
        return [e.relative_to(folder).as_posix() for e in folder.rglob("*") if not e.is_dir()]
    except OSError as error:
        raise OutputError(f"{folder} cannot be read: {error.strerror}.") from error


def _ours(folder: Path) -> list[str]:
    """Names that our manifest lists and that are plain files in the folder or below it."""
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ExportError(f"{path} cannot be read: {error}.") from error
    if not isinstance(names, list):
        raise ExportError(f"{path} is no list of files: remove it, or choose another folder.")
    return [n for n in names if isinstance(n, str) and _inside(n) and (folder / n).is_file()]


def _inside(name: str) -> bool:
    """Whether a name stays below the folder it is relative to, spelt as we write it."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name
