"""What is wrong with how the replicas of a group share its GPUs, seen from the plan alone."""

from collections.abc import Callable, Iterator, Mapping

from planner.plan_file import Group, Replica

TOLERANCE = 1e-6


def faults(group: Group) -> Iterator[str]:
    """What is wrong with the replicas of a group, one sentence each without its full stop."""
    size = group.tp * group.pp
    copies = len(group.replicas) if group.kind == "disaggregated" else 1
    if len(group.gpu_ids) != size * copies:
        times = f" × {copies} replicas" if copies > 1 else ""
        yield f"{group.id} has {len(group.gpu_ids)} GPUs for tp {group.tp} × pp {group.pp}{times}"
    if size > 1 and any(map(shares, group.replicas)):
        yield f"{group.id} gives a replica part of a GPU at tp {group.tp} × pp {group.pp}: only single GPUs are shared"
    if any(replica.sm_fraction == 0 for replica in group.replicas):
        yield f"{group.id} gives a replica nothing of its GPU: sm_fraction 0"
    yield from KINDS[group.kind](group)


def shares(replica: Replica) -> bool:
    """Whether the replica has less than whole GPUs."""
    return replica.sm_fraction < 1.0 or replica.mig_profile is not None


def _dedicated(group: Group) -> Iterator[str]:
    if len(group.replicas) != 1:
        yield f"{group.id} is dedicated and has {len(group.replicas)} replicas: it can have one"
    yield from _whole_requests(group)


def _colocated(group: Group) -> Iterator[str]:
    if group.tp * group.pp > 1:
        yield f"{group.id} is colocated at tp {group.tp} × pp {group.pp}: only single GPUs are shared"
    total = sum(replica.sm_fraction for replica in group.replicas)
    if total > 1 + TOLERANCE:
        yield f"{group.id} gives out {total:.0%} of its GPU: the sm_fraction of its replicas sum to {total:g}"
    if len({replica.mig_profile is None for replica in group.replicas}) > 1:
        yield f"{group.id} has replicas with a mig_profile and without: a GPU in MIG mode gives instances only"
    yield from _whole_requests(group)


def _whole_requests(group: Group) -> Iterator[str]:
    for replica in group.replicas:
        if replica.role != "both":
            yield f"{group.id} is {group.kind} and has a replica for {replica.role} only: that is disaggregated"


def _disaggregated(group: Group) -> Iterator[str]:
    roles = {replica.role for replica in group.replicas}
    if roles != {"prefill", "decode"}:
        yield f"{group.id} is disaggregated and has replicas for {' and '.join(sorted(roles))}: prefill and decode both"
    if len({replica.model for replica in group.replicas}) > 1:
        yield f"{group.id} is disaggregated and runs several models: its replicas hand on the KV cache of one"
    if any(map(shares, group.replicas)):
        yield f"{group.id} is disaggregated and gives a replica part of a GPU: only colocated replicas share"


def _multiplexed(_group: Group) -> Iterator[str]:
    return iter(())


KINDS: Mapping[str, Callable[[Group], Iterator[str]]] = {
    "dedicated": _dedicated,
    "colocated": _colocated,
    "multiplexed": _multiplexed,
    "disaggregated": _disaggregated,
}
