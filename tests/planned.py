"""Varied plans: made by `muxplan plan` from the specs beside them, and some of those with their GPUs shared by hand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from planner.plan_file import GpuId, Group, Plan, Replica
from planner.plan_io import read_plan

FOLDER = Path(__file__).parent / "golden" / "plans"
KV_FRACTION = 0.35
MEMORY_BYTES = 66_000_000_000


def planned(name: str) -> Plan:
    """The plan of that name; the files that it names lie in FOLDER."""
    return EDITED[name]() if name in EDITED else read_plan(FOLDER / f"{name}.plan.yaml")


def colocated(*shares: Mapping[str, Any]) -> Plan:
    """Two GPUs, each shared by two models; `shares` changes the replicas of each GPU, in halves if left out."""
    plan = read_plan(FOLDER / "shared.plan.yaml")
    changes = shares or ({"sm_fraction": 0.5}, {"sm_fraction": 0.5})
    talk, code = ([g for g in plan.groups if g.replicas[0].model == model] for model in ("talk", "code"))
    groups = tuple(
        first.model_copy(
            update={
                "id": f"talk+code@h200/shared#{number}",
                "template": "h200/shared",
                "queue": "talk+code@h200/shared",
                "kind": "colocated",
                "gpu_ids": (GpuId(node="h200-0", index=number),),
                "replicas": tuple(
                    _small(group.replicas[0], change) for group, change in zip((first, second), changes, strict=True)
                ),
            }
        )
        for number, (first, second) in enumerate(zip(talk, code, strict=True))
    )
    routes = [{"group": group.id, "weight_fraction": 1 / len(groups)} for group in groups]
    count = plan.gpu_counts["h200"].model_copy(update={"bought": len(groups), "used": len(groups)})
    cost = len(groups) * count.price_usd_per_gpu_hour
    return edited(
        plan,
        groups=groups,
        routes=dict.fromkeys(plan.routes, routes),
        gpu_counts={"h200": count},
        slack=(),
        **{"cost_usd_per_hour": cost, "bound_fluid": None, "bound_model": None},
    )


def _small(replica: Replica, change: Mapping[str, Any]) -> Replica:
    """The replica with a KV cache that leaves room for another one's."""
    assert replica.engine is not None
    kv_bytes = int(replica.engine.kv_cache_memory_bytes * KV_FRACTION)
    engine = replica.engine.model_copy(update={"kv_cache_memory_bytes": kv_bytes, "gpu_memory_utilization": 0.45})
    tokens = int(replica.kv_tokens * KV_FRACTION)
    fields = {"kv_tokens": tokens, "memory_bytes": MEMORY_BYTES, "engine": engine}
    return replica.model_copy(update={**fields, **change})


def mig() -> Plan:
    """Two GPUs, each cut into two MIG instances."""
    return colocated({"sm_fraction": 0.48, "mig_profile": "4g.71gb"}, {"sm_fraction": 0.45, "mig_profile": "3g.71gb"})


def disaggregated() -> Plan:
    """A prefill and two decode replicas of two GPUs each; one of them stands on another node."""
    plan = read_plan(FOLDER / "tensor_parallel.plan.yaml")
    group: Group = plan.groups[0]
    roles = ("prefill", "decode", "decode")
    places = [("h100-0", 0), ("h100-0", 1), ("h100-0", 2), ("h100-0", 3), ("h100-1", 0), ("h100-1", 1)]
    changes = {
        "id": "assistant+summaries@h100/phases#0",
        "queue": "assistant+summaries@h100/phases",
        "kind": "disaggregated",
        "gpu_ids": tuple(GpuId(node=node, index=index) for node, index in places),
        "replicas": tuple(group.replicas[0].model_copy(update={"role": role}) for role in roles),
    }
    whole = group.model_copy(update=changes)
    routes = [{"group": whole.id, "weight_fraction": 1.0}]
    count = plan.gpu_counts["h100"].model_copy(update={"used": len(places)})
    return edited(
        plan, groups=(whole,), routes=dict.fromkeys(plan.routes, routes), gpu_counts={"h100": count}, slack=()
    )


def edited(plan: Plan, **fields: Any) -> Plan:
    """A copy of the plan with other fields, checked like any plan."""
    return Plan.model_validate({name: getattr(plan, name) for name in Plan.model_fields} | fields)


EDITED: Mapping[str, Callable[[], Plan]] = {"colocated": colocated, "mig": mig, "disaggregated": disaggregated}
PLANS = ("chat", "tensor_parallel", "experts", "embedding", "two_pools", *EDITED)
