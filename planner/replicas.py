"""The replicas of a group one by one: the GPUs of each, the MIG instances of one GPU, each as a group of its own."""

from collections.abc import Iterator, Sequence

from planner.plan_file import GpuId, Group, Plan, Replica, Route
from planner.plan_io import PlanFileError
from profiles.gpus import Gpu, Mig, MigProfile


def gpus_of(group: Group, number: int) -> tuple[GpuId, ...]:
    """The GPUs of the replica of that number: tp × pp of its own where phases stand apart, else those of the group."""
    if group.kind != "disaggregated":
        return group.gpu_ids
    size = group.tp * group.pp
    return group.gpu_ids[number * size : (number + 1) * size]


def members(group: Group) -> tuple[Group, ...]:
    """Each replica as a group of its own, with its GPUs, and an id and queue that no other has.

    Replicas of one phase stay in one queue; a group of one replica is its own member.
    """
    if len(group.replicas) == 1:
        return (group,)
    return tuple(
        group.model_copy(
            update={
                "id": f"{group.id}.{number}",
                "queue": f"{group.queue} {number if replica.role == 'both' else replica.role}",
                "gpu_ids": gpus_of(group, number),
                "replicas": (replica,),
            }
        )
        for number, replica in enumerate(group.replicas)
    )


def member_routes(plan: Plan) -> dict[str, tuple[Route, ...]]:
    """Workload → routes to the members of groups that several models share; other groups are routed to as a whole.

    A workload goes in equal parts to the replicas of its model. PlanFileError when a group has none.
    """
    groups = {group.id: group for group in plan.groups}
    return {
        workload: tuple(
            part for route in routes for part in _parts(route, groups[route.group], workload, _model(plan, workload))
        )
        for workload, routes in plan.routes.items()
    }


def _model(plan: Plan, workload: str) -> str:
    return plan.workloads[workload].model


def _parts(route: Route, group: Group, workload: str, model: str) -> list[Route]:
    if group.kind == "disaggregated" or len(group.replicas) == 1:
        return [route]
    mine = [member for member in members(group) if member.replicas[0].model == model]
    if not mine:
        raise PlanFileError(f"{workload[:60]} is routed to {group.id[:80]}, which does not run {model[:60]}.")
    weight = route.weight_fraction / len(mine)
    return [route.model_copy(update={"group": one.id, "weight_fraction": weight}) for one in mine]


def apart(plan: Plan) -> Plan:
    """The plan with every replica of a colocated group as a dedicated group on the same GPU, in the queue that would
    run it alone: what a check starts and measures. PlanFileError as `member_routes`.
    """
    routes = member_routes(plan)
    groups = []
    for group in plan.groups:
        if group.kind != "colocated":
            groups.append(group)
            continue
        for member in members(group):
            served = [workload for workload, some in routes.items() if member.id in {route.group for route in some}]
            alone = {"kind": "dedicated", "template": _layout(member), "queue": f"{'+'.join(served)}@{_layout(member)}"}
            groups.append(member.model_copy(update=alone))
    return plan.model_copy(update={"groups": tuple(groups), "routes": routes})


def _layout(group: Group) -> str:
    replica = group.replicas[0]
    return f"{group.pool}/{replica.model}/{replica.quantization}/tp{group.tp}pp{group.pp}ep{group.ep}"


def mig_faults(replicas: Sequence[Replica], gpu: Gpu) -> Iterator[str]:
    """What stands against these MIG instances on one GPU, one clause each; nothing for replicas without a profile."""
    wanted = [(replica, replica.mig_profile) for replica in replicas if replica.mig_profile is not None]
    if not wanted:
        return
    if gpu.mig is None:
        yield f"{gpu.name} cannot be cut by MIG"
        return
    known = {profile.name: profile for profile in gpu.mig.profiles}
    unknown = [name for _, name in wanted if name not in known]
    for name in unknown:
        yield f"{gpu.name} has no MIG profile {name!r}: {', '.join(known)}"
    if unknown:
        return
    for replica, name in wanted:
        if replica.memory_bytes > known[name].memory_bytes:
            yield f"{replica.model} needs {replica.memory_bytes} bytes, {name} has {known[name].memory_bytes}"
    if not _fit([known[name] for _, name in wanted], gpu.mig):
        yield f"{' + '.join(name for _, name in wanted)} do not fit on one {gpu.name}"


def _fit(profiles: Sequence[MigProfile], mig: Mig) -> bool:
    """Whether the instances can be placed together (NVIDIA MIG User Guide, supported profiles and placements)."""
    if sum(profile.compute_slices for profile in profiles) > mig.compute_slices:
        return False
    return _placed(sorted(profiles, key=lambda profile: -profile.memory_slices), frozenset())


def _placed(profiles: Sequence[MigProfile], taken: frozenset[int]) -> bool:
    if not profiles:
        return True
    first, *others = profiles
    for start in first.placements:
        slices = frozenset(range(start, start + first.memory_slices))
        if not slices & taken and _placed(others, taken | slices):
            return True
    return False
