"""GPUs that several replicas share: whether their memory and their shares go together on each of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from planner.group_faults import TOLERANCE, shares
from planner.plan_file import Group, Replica
from planner.replicas import mig_faults
from planner.spec import Pool
from profiles.gpus import Gpu
from profiles.measured_steps import named_gpu

AMD_GENERATIONS = ("cdna3",)


def share_refusal(groups: Sequence[Group], pools: Mapping[str, Pool], folder: Path) -> str | None:
    """Why GPUs cannot be shared as planned, without its full stop; None when nothing stands against it.

    Looked at are the GPUs on which a replica has less than the whole. Files of pools are relative to `folder`.
    """
    for (node, index), (group, replicas) in _by_gpu(groups).items():
        if any(map(shares, replicas)):
            if group.pool not in pools:
                return f"{group.id} stands in {group.pool}, which is no pool of the plan's spec"
            reason = next(_refusals(replicas, named_gpu(pools[group.pool].gpu, folder)), None)
            if reason is not None:
                return f"GPU {index} of {node} ({group.id}): {reason}"
    return None


def _by_gpu(groups: Sequence[Group]) -> dict[tuple[str, int], tuple[Group, list[Replica]]]:
    """(node, index) → the first group there, and the replicas of all that stand there on single GPUs."""
    found: dict[tuple[str, int], tuple[Group, list[Replica]]] = {}
    for group in groups:
        for gpu in group.gpu_ids:
            on_it = found.setdefault((gpu.node, gpu.index), (group, []))[1]
            on_it += group.replicas[:1] if group.kind == "disaggregated" else group.replicas
    return found


def _refusals(replicas: Sequence[Replica], gpu: Gpu) -> Iterator[str]:
    if gpu.generation in AMD_GENERATIONS:
        yield f"{gpu.name} has neither MPS nor MIG, which are NVIDIA's"
    yield from mig_faults(replicas, gpu)
    if any(replica.mig_profile is not None for replica in replicas):
        if any(replica.mig_profile is None for replica in replicas):
            yield "it has replicas with a mig_profile and without: a GPU in MIG mode gives instances only"
        return
    fractions = sum(replica.sm_fraction for replica in replicas)
    if fractions > 1 + TOLERANCE:
        yield f"the sm_fraction of its replicas sum to {fractions:g}"
    memory = sum(replica.memory_bytes for replica in replicas)
    if memory > gpu.visible_memory_bytes:
        yield f"its replicas need {memory} bytes, {gpu.name} shows {gpu.visible_memory_bytes}"
    asked = sum(replica.engine.gpu_memory_utilization for replica in replicas if replica.engine is not None)
    if asked > 1 + TOLERANCE:
        yield (
            f"the gpu_memory_utilization of its replicas sum to {asked:g}, and vLLM wants that part of the memory free"
            " when it starts"
        )
