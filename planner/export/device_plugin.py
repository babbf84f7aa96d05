"""NVIDIA's device plugin for Kubernetes: its names for shares and MIG instances, and the configs behind them.

Its README (github.com/NVIDIA/k8s-device-plugin, "With CUDA MPS"): every GPU of a node is shared alike, by so many
replicas; each gets an equal part of the SMs and of the memory, and is asked for as nvidia.com/gpu.shared where
renameByDefault is set. MIG instances have names of their own under migStrategy mixed. A node says by the label
nvidia.com/device-plugin.config which config is its own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from planner.export.devices import Device
from planner.export.launch import ExportError, Launch, Launches
from planner.export.yaml_text import one_text, several_text
from profiles.gpus import load_gpu

CONFIG_LABEL = "nvidia.com/device-plugin.config"
SHARED = "nvidia.com/gpu.shared"
MIXED = "mig-mixed"
TOLERANCE = 0.005
HEADER = """\
# For the namespace of NVIDIA's device plugin, whose chart takes it as config.name={name}.
# The nodes of these replicas need a label:
"""
LABEL_LINE = "# kubectl label node NODE {label}={config}    ({what})\n"


def resource(one: Launch, device: Device) -> str:
    """What the pod of a replica asks for: whole GPUs, a share of one, or a MIG instance."""
    if one.replica.mig_profile is not None:
        return f"nvidia.com/mig-{one.replica.mig_profile}"
    return device.resource if one.mps_percent is None else SHARED


def config_of(launched: Launches, one: Launch) -> str | None:
    """The config that a replica's nodes need; None for whole GPUs."""
    if one.replica.mig_profile is not None:
        return MIXED
    return None if one.mps_percent is None else f"mps-{_replicas(launched, one)}"


def check_shares(launched: Launches) -> None:
    """ExportError for shares that the device plugin does not give out."""
    for one in launched.launches:
        reason = _refusal(launched, one)
        if reason is not None:
            raise ExportError(f"{one.group.id} ({one.model}): {reason}.")
    nodes: dict[str, str | None] = {}
    for one in launched.launches:
        config = config_of(launched, one)
        # Under the mixed strategy a node has MIG instances and whole GPUs beside each other.
        sharing = None if config == MIXED else config
        if nodes.setdefault(one.node, sharing) != sharing:
            raise ExportError(
                f"{one.node} has GPUs that are shared and others that are not, or not by as many:"
                " NVIDIA's device plugin shares all GPUs of a node alike."
            )


def _replicas(launched: Launches, one: Launch) -> int:
    return max(launched.on_gpu[one.node, index] for index in one.gpu_indices)


def _refusal(launched: Launches, one: Launch) -> str | None:
    """A reason against a share; two replicas that have all of one GPU each are told, too."""
    count = _replicas(launched, one)
    if one.replica.mig_profile is not None or (count == 1 and one.mps_percent is None):
        return None
    if abs(one.replica.sm_fraction - 1 / count) > TOLERANCE:
        return (
            f"it has {one.replica.sm_fraction:.0%} of its GPU, and NVIDIA's device plugin gives equal shares only:"
            f" {1 / count:.0%} to each of the {count} replicas there"
        )
    limit = load_gpu(one.group.gpu).visible_memory_bytes // count
    if one.replica.memory_bytes > limit:
        return (
            f"it needs {one.replica.memory_bytes} bytes, and NVIDIA's device plugin limits each of the {count} replicas"
            f" of its GPU to {limit}"
        )
    return None


def config_map(launched: Launches, name: str) -> str | None:
    """The ConfigMap with the plugin's configs and what to do with it, as text; None where no replica needs one."""
    needed = dict.fromkeys(config for one in launched.launches if (config := config_of(launched, one)) is not None)
    if not needed:
        return None
    # A node without the label keeps whole GPUs: a config called default is taken for it.
    data = {"default": one_text({"version": "v1"}), **{config: one_text(_config(config)) for config in needed}}
    labels = {"app.kubernetes.io/part-of": "muxplan"}
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": data}
    lines = [LABEL_LINE.format(label=CONFIG_LABEL, config=one, what=_what(launched, one)) for one in needed]
    return HEADER.format(name=name) + "".join(lines) + several_text([found])


def _config(config: str) -> Mapping[str, Any]:
    if config == MIXED:
        return {"version": "v1", "flags": {"migStrategy": "mixed"}}
    shared = {"name": "nvidia.com/gpu", "replicas": int(config.removeprefix("mps-"))}
    return {"version": "v1", "sharing": {"mps": {"renameByDefault": True, "resources": [shared]}}}


def _what(launched: Launches, config: str) -> str:
    if config != MIXED:
        return f"the plugin runs an MPS daemon there and shares every GPU by {config.removeprefix('mps-')}"
    return "; ".join(f"{count} GPUs cut into {cut}" for cut, count in _cuts(launched.launches).items())


def _cuts(launches: Sequence[Launch]) -> Counter[str]:
    """The MIG instances of a GPU together → GPUs that are cut so."""
    by_gpu: dict[tuple[str, int], list[str]] = {}
    for one in launches:
        if one.replica.mig_profile is not None:
            by_gpu.setdefault((one.node, one.gpu_indices[0]), []).append(one.replica.mig_profile)
    return Counter(" + ".join(sorted(profiles)) for profiles in by_gpu.values())
