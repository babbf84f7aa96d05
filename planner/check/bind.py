"""Which groups of a plan are started here, on which of this machine's devices and ports."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from planner.export.launch import Launch, Launches
from planner.runtime.errors import EngineError

LIST_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A launch with devices and port of this machine, and the groups whose devices it shares."""

    launch: Launch
    neighbours: tuple[str, ...]


def bound_launches(
    launched: Launches, devices: int, *, node: str | None, groups: Sequence[str], first_port: int
) -> tuple[list[Bound], tuple[str, ...]]:
    """(what to start, the groups left out). By default the groups of the plan's first node; `node` names another one,
    `groups` picks. Their GPUs are taken in order as the devices 0, 1, … of this machine; who shares one in the plan
    shares one here. EngineError for names that the plan does not have, for replicas that cannot be started here alone,
    and when there are too few devices.
    """
    chosen = _chosen(launched, node, groups)
    for one in chosen:
        _check_startable(one)
    places = sorted({(one.node, index) for one in chosen for index in one.gpu_indices})
    if len(places) > devices:
        raise EngineError(
            f"the {len(chosen)} groups of {node or chosen[0].node} need {len(places)} devices, this machine has"
            f" {devices}: pick groups with --group."
        )
    here = {place: number for number, place in enumerate(places)}
    found = []
    for number, one in enumerate(chosen):
        mine = {(one.node, index) for index in one.gpu_indices}
        shared = [o.group.id for o in chosen if o is not one and mine & {(o.node, index) for index in o.gpu_indices}]
        local = replace(one, gpu_indices=tuple(here[p] for p in sorted(mine)), port=first_port + number)
        found.append(Bound(launch=local, neighbours=tuple(shared)))
    started = {b.launch.group.id for b in found}
    return found, tuple(o.group.id for o in launched.launches if o.group.id not in started)


def _chosen(launched: Launches, node: str | None, groups: Sequence[str]) -> list[Launch]:
    known = [one.group.id for one in launched.launches]
    for name in groups:
        if name not in known:
            raise EngineError(f"the plan has no group '{name[:60]}' with an engine: {', '.join(known[:8])} …")
    if groups:
        return [one for one in launched.launches if one.group.id in groups]
    nodes = list(dict.fromkeys(one.node for one in launched.launches))
    if node is not None and node not in nodes:
        raise EngineError(f"the plan has no node '{node[:60]}' with an engine: {', '.join(nodes[:8])} …")
    return [one for one in launched.launches if one.node == (node or nodes[0])]


def _check_startable(one: Launch) -> None:
    if one.replica.role != "both":
        raise EngineError(
            f"{one.whole.id} is disaggregated and answers behind a proxy only, which a check does not start."
        )
    if one.replica.mig_profile is not None:
        raise EngineError(
            f"{one.group.id} runs on a MIG instance, whose UUID the plan does not know: it is not started."
        )


def local_devices(kind: Literal["gpu", "cpu"]) -> int:
    """GPUs of this machine, or cores that this process may use. EngineError when the GPUs cannot be listed."""
    if kind == "cpu":
        return len(os.sched_getaffinity(0))
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIST_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError("the GPUs of this machine cannot be listed: nvidia-smi is missing or fails.") from error
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())
