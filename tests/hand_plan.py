"""A small plan written by hand: two workloads, two pools, three groups. Tests change single fields of copies of it."""

from typing import Any

from planner.plan_file import (
    EngineSettings,
    FigureEvidence,
    GpuCount,
    GpuId,
    Group,
    Percentiles,
    Plan,
    Replica,
    Route,
    Slack,
    Verified,
    WorkloadResult,
)
from profiles.evidence import Evidence

ENGINE = EngineSettings(
    max_num_seqs=64,
    max_num_batched_tokens=4096,
    max_model_len=8192,
    kv_cache_memory_bytes=9_000_000_000,
    gpu_memory_utilization=0.92,
)
REPLICA = Replica(
    model="tiny",
    architecture="qwen3-0.6b",
    quantization="bf16",
    memory_bytes=12_000_000_000,
    kv_tokens=81_920,
    engine=ENGINE,
)


def percentiles(p99: float) -> Percentiles:
    """A latency whose other figures are halves and quarters of its tail."""
    return Percentiles(mean=p99 / 2, p50=p99 / 4, p90=p99 / 2, p99=p99)


def group(identity: str, queue: str, pool: str, *gpus: tuple[str, int], **changes: Any) -> Group:
    """A group on these (node, index) GPUs, tensor parallel over all of them."""
    fields = {
        "id": identity,
        "template": queue.split("@")[1],
        "queue": queue,
        "pool": pool,
        "gpu": "l4-24gb" if pool == "cheap" else "h100-sxm-80gb",
        "gpu_ids": tuple(GpuId(node=node, index=index) for node, index in gpus),
        "tp": len(gpus),
        "pp": 1,
        "ep": 1,
        "replicas": (REPLICA,),
    }
    return Group(**{**fields, **changes})


CHAT = WorkloadResult(
    model="tiny",
    rate_rps=12.0,
    served_rps=12.0,
    capacity_rps=20.0,
    attainment=0.991,
    attainment_target=0.95,
    attainment_standard_error=0.001,
    ttft_ms=percentiles(720.0),
    tpot_ms=percentiles(30.0),
    e2e_ms=percentiles(4000.0),
    slo={"ttft_ms": 800.0, "tpot_ms": 60.0},
    evidence=FigureEvidence(headline=Evidence.SCALED, shares={Evidence.SCALED: 1.0}),
)
CODE = WorkloadResult(
    model="tiny",
    rate_rps=3.0,
    served_rps=2.0,
    capacity_rps=2.1,
    attainment=0.97,
    attainment_target=0.9,
    ttft_ms=percentiles(100.0),
    tpot_ms=percentiles(20.0),
    e2e_ms=percentiles(900.0),
    slo={"ttft_ms": 1000.0},
    evidence=FigureEvidence(headline=Evidence.MEASURED, shares={Evidence.MEASURED: 0.9, Evidence.MODELLED: 0.1}),
)
PLAN = Plan(
    name="by-hand",
    engine="vllm",
    termination="optimal",
    cost_usd_per_hour=7.2,
    objectives={"cost": 7.2},
    bound_fluid=6.0,
    gap_fluid_fraction=0.166667,
    bound_model=7.2,
    gap_model_fraction=0.0,
    bound_scope="replicas of one model",
    verified=Verified(held=True, draws=8, requests_per_draw={"chat": 400, "code": 400}),
    gpu_counts={
        "cheap": GpuCount(bought=4, used=2, nodes=1, price_usd_per_gpu_hour=0.8, billing="on_demand"),
        "fast": GpuCount(bought=2, used=2, nodes=1, price_usd_per_gpu_hour=2.0, billing="on_demand"),
    },
    groups=(
        group("g0", "chat@tiny-cheap", "cheap", ("cheap-0", 0)),
        group("g1", "chat@tiny-cheap", "cheap", ("cheap-0", 1)),
        group("g2", "chat+code@tiny-fast", "fast", ("fast-0", 0), ("fast-0", 1)),
    ),
    routes={
        "chat": (
            Route(group="g0", weight_fraction=0.3),
            Route(group="g1", weight_fraction=0.3),
            Route(group="g2", weight_fraction=0.4),
        ),
        "code": (Route(group="g2", weight_fraction=1.0),),
    },
    workloads={"chat": CHAT, "code": CODE},
    unmet={"code": 1.0},
    slack=(Slack(queue="chat@tiny-cheap", copies=2, reason="one copy less misses by chance"),),
    assumptions=("a router in front of the replicas",),
    seed=0,
    spec_digest="0" * 64,
    spec={"name": "by-hand"},
)
NO_PLAN = Plan(
    **{
        **{name: getattr(PLAN, name) for name in Plan.model_fields},
        "termination": "infeasible",
        "cost_usd_per_hour": None,
        "objectives": {},
        "bound_fluid": None,
        "gap_fluid_fraction": None,
        "bound_model": None,
        "gap_model_fraction": None,
        "verified": None,
        "gpu_counts": {},
        "groups": (),
        "routes": {},
        "workloads": {},
        "slack": (),
        "conflicts": ("constraints[0]: budget (usd_per_hour 1)",),
    }
)


def changed(plan: Plan = PLAN, **fields: Any) -> Plan:
    """A copy of the plan with other fields, checked like any plan."""
    return Plan.model_validate({name: getattr(plan, name) for name in Plan.model_fields} | fields)


def with_workload(name: str, **fields: Any) -> Plan:
    """The plan with one workload's figures changed."""
    return changed(workloads={**PLAN.workloads, name: PLAN.workloads[name].model_copy(update=fields)})


def with_groups(*groups: Group) -> Plan:
    """The plan with other groups."""
    return changed(groups=groups)
