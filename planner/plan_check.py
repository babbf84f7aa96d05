"""An independent check of a finished plan: only the plan and the spec inside it, no code of the planning path."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from math import isclose
from pathlib import Path
from typing import Any

from planner.group_faults import faults
from planner.plan_file import GpuId, Group, Plan
from planner.replicas import gpus_of, mig_faults
from planner.spec import Pool, Spec
from profiles.gpus import Gpu
from profiles.measured_steps import named_gpu

TOLERANCE = 1e-6


def check_plan(plan: Plan, folder: Path = Path()) -> list[str]:
    """What is wrong with the plan, one sentence each; nothing for a sound plan, or for one that says there is none.

    Device files that its spec names are relative to `folder`, the plan's own; ProfileError when one cannot be read.
    """
    if not plan.groups:
        return [] if plan.conflicts or not plan.spec else ["a plan without groups must say why there is none"]
    spec = Spec.model_validate(plan.spec, strict=False)
    pools = {p.name: p for p in spec.cluster.pools}
    gpus = {name: named_gpu(pool.gpu, folder) for name, pool in pools.items()}
    return [
        *_hardware(plan, pools, gpus),
        *_models(plan, spec, gpus),
        *_money(plan, pools),
        *_routes(plan, spec),
        *_service(plan, spec),
        *(
            f"{_title(i, rule)} is broken: {what}"
            for i, rule in enumerate(spec.constraints)
            for what in _rule(plan, spec, rule)
        ),
    ]


def _title(index: int, rule: Any) -> str:
    return f"constraints[{index}] ({rule.kind})"


def _nodes_of(pool: Pool) -> int:
    return pool.nodes or pool.max_nodes or 0


def _node_number(pool: Pool, node: str) -> int | None:
    prefix = f"{pool.name}-"
    number = node.removeprefix(prefix)
    return int(number) if node.startswith(prefix) and number.isdigit() else None


def _hardware(plan: Plan, pools: Mapping[str, Pool], gpus: Mapping[str, Gpu]) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {}
    for group in plan.groups:
        pool = pools.get(group.pool)
        if pool is None:
            yield f"{group.id} stands in {group.pool}, which is no pool"
            continue
        yield from faults(group)
        yield from (f"{group.id}: {fault}" for fault in mig_faults(group.replicas, gpus[pool.name]))
        for gpu in group.gpu_ids:
            number = _node_number(pool, gpu.node)
            if number is None or number >= _nodes_of(pool) or not 0 <= gpu.index < pool.gpus_per_node:
                yield f"{group.id} takes GPU {gpu.index} of {gpu.node}, which {pool.name} does not have"
            other = taken.setdefault((gpu.node, gpu.index), group.id)
            if other != group.id:
                yield f"GPU {gpu.index} of {gpu.node} is taken by {other} and by {group.id}"
        yield from _locality(group, pool, gpus[pool.name])


def _locality(group: Group, pool: Pool, device: Gpu) -> Iterator[str]:
    """Of each replica: replicas of a group may stand apart from each other."""
    for gpus in dict.fromkeys(gpus_of(group, number) for number in range(len(group.replicas))):
        yield from _replica_locality(group, gpus, pool, device)


def _replica_locality(group: Group, gpus: tuple[GpuId, ...], pool: Pool, device: Gpu) -> Iterator[str]:
    nodes = {g.node for g in gpus}
    size = group.tp * group.pp
    if size <= pool.gpus_per_node and len(nodes) > 1:
        yield f"{group.id} is spread over {len(nodes)} nodes although one holds it"
    domain = min(device.nvlink_domain_gpus, pool.gpus_per_node)
    if 1 < size <= domain and len({g.index // domain for g in gpus}) > 1:
        yield f"{group.id} leaves its NVLink domain"


def _models(plan: Plan, spec: Spec, gpus: Mapping[str, Gpu]) -> Iterator[str]:
    models = {m.name: m for m in spec.models}
    for group in plan.groups:
        for replica in group.replicas:
            model = models.get(replica.model)
            if model is None:
                yield f"{group.id} runs {replica.model}, which is no model of the spec"
                continue
            if model.quantizations is not None and replica.quantization not in (*model.quantizations, "measured"):
                yield f"{group.id} runs {replica.model} in {replica.quantization}, which nobody asked for"
            if model.parallelism.tp is not None and group.tp not in model.parallelism.tp and replica.engine:
                yield f"{group.id} runs {replica.model} at tp {group.tp}, which the spec does not list"
        visible = gpus[group.pool].visible_memory_bytes
        needed = [r.memory_bytes for r in group.replicas]
        if (max(needed) if group.kind == "disaggregated" else sum(needed)) > visible:
            yield f"{group.id} needs more memory than a GPU of {group.pool} shows"


def _money(plan: Plan, pools: Mapping[str, Pool]) -> Iterator[str]:
    total = 0.0
    for name, count in plan.gpu_counts.items():
        pool = pools[name]
        used = sum(len(g.gpu_ids) for g in plan.groups if g.pool == name)
        if used != count.used or count.used > count.bought:
            yield f"{name}: {count.bought} GPUs bought and {count.used} used, but the groups take {used}"
        if count.bought > _nodes_of(pool) * pool.gpus_per_node:
            yield f"{name}: {count.bought} GPUs are more than the pool has"
        if pool.buy == "node" and count.bought % pool.gpus_per_node:
            yield f"{name}: {count.bought} GPUs are no whole nodes of {pool.gpus_per_node}"
        if pool.billing != "reserved":
            total += count.bought * count.price_usd_per_gpu_hour
    if plan.cost_usd_per_hour is None or not isclose(total, plan.cost_usd_per_hour, rel_tol=1e-6, abs_tol=1e-5):
        yield f"the cost is said to be {plan.cost_usd_per_hour} USD/h, but the GPUs cost {total:.6f}"
    for name, bound in (("bound_fluid", plan.bound_fluid), ("bound_model", plan.bound_model)):
        if bound is not None and plan.cost_usd_per_hour is not None and bound > plan.cost_usd_per_hour + 1e-5:
            yield f"{name} {bound} is above the cost"


def _routes(plan: Plan, spec: Spec) -> Iterator[str]:
    groups = {g.id: g for g in plan.groups}
    for workload in spec.workloads:
        routes = plan.routes.get(workload.name, ())
        for route in routes:
            if route.group not in groups:
                yield f"{workload.name} is routed to {route.group}, which is no group"
            elif workload.model not in {r.model for r in groups[route.group].replicas}:
                yield f"{workload.name} is routed to {route.group}, which does not run {workload.model}"
        if routes and not isclose(sum(r.weight_fraction for r in routes), 1.0, abs_tol=1e-4):
            yield f"the weights of {workload.name} sum to {sum(r.weight_fraction for r in routes):.6f}"


def _service(plan: Plan, spec: Spec) -> Iterator[str]:
    for workload in spec.workloads:
        result = plan.workloads.get(workload.name)
        if result is None:
            yield f"{workload.name} has no result"
            continue
        unmet = plan.unmet.get(workload.name, 0.0)
        if abs(result.served_rps + unmet - result.rate_rps) > 1e-4 * result.rate_rps:
            yield f"{workload.name}: {result.served_rps} served and {unmet} unmet of {result.rate_rps} requests/s"
        if unmet > 1e-4 * result.rate_rps and not (spec.allow_unmet or workload.best_effort):
            yield f"{workload.name}: {unmet} requests/s unmet, which the spec does not allow"
        # Workloads held: the planning rule, from the figures in the plan.
        held = plan.verified is not None and plan.verified.held
        if held and not workload.best_effort and not spec.allow_unmet and result.attainment is not None:
            safe = result.attainment - 2.0 * (result.attainment_standard_error or 0.0)
            if safe < workload.slo.attainment - TOLERANCE * 10:
                yield f"{workload.name}: said to hold, but {safe:.6f} is below {workload.slo.attainment}"


def _copies(plan: Plan, spec: Spec, rule: Any) -> list[Group]:
    """Groups that serve the rule's subject, in its pool if it names one."""
    wanted = {w.name for w in spec.workloads if rule.workload in (None, w.name) and rule.model in (None, w.model)}
    serving = {r.group for name in wanted for r in plan.routes.get(name, ())}
    pool = getattr(rule, "pool", None)
    return [g for g in plan.groups if g.id in serving and pool in (None, g.pool)]


def _domains(groups: list[Group], spec: Spec, over: str) -> set[Any]:
    pools = {p.name: p for p in spec.cluster.pools}
    found: set[Any] = set()
    for group in groups:
        for gpu in group.gpu_ids:
            pool = pools[group.pool]
            number = _node_number(pool, gpu.node) or 0
            found.add({"node": gpu.node, "rack": (pool.name, number % pool.racks), "zone": pool.zone}[over])
    return found


def _check_max_gpus(plan: Plan, _spec: Spec, rule: Any) -> Iterator[str]:
    bought = sum(c.bought for name, c in plan.gpu_counts.items() if rule.pool in (None, name))
    if bought > rule.count:
        yield f"{bought} GPUs"


def _check_budget(plan: Plan, _spec: Spec, rule: Any) -> Iterator[str]:
    if (plan.cost_usd_per_hour or 0.0) > rule.usd_per_hour * (1 + TOLERANCE) + TOLERANCE:
        yield f"{plan.cost_usd_per_hour} USD/h"


def _check_min_replicas(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    if len(_copies(plan, spec, rule)) < rule.count:
        yield f"{len(_copies(plan, spec, rule))} replicas"


def _check_max_replicas(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    if len(_copies(plan, spec, rule)) > rule.count:
        yield f"{len(_copies(plan, spec, rule))} replicas"


def _check_spread(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    domains = _domains(_copies(plan, spec, rule), spec, rule.over)
    if len(domains) < rule.min_domains:
        yield f"replicas in {len(domains)} {rule.over}s"


def _check_avoid(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    for group in _copies(plan, spec, rule):
        yield f"{group.id} stands there"


def _check_pin(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    pools = {p.name: p for p in spec.cluster.pools}
    anywhere = rule.model_copy(update={"pool": None})
    for group in _copies(plan, spec, anywhere):
        if rule.pool not in (None, group.pool) or rule.zone not in (None, pools[group.pool].zone):
            yield f"{group.id} stands elsewhere"


def _check_never_together(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    by_workload = {}
    for name in rule.workloads:
        serving = {r.group for r in plan.routes.get(name, ())}
        by_workload[name] = _domains([g for g in plan.groups if g.id in serving], spec, rule.over)
    for first, second in combinations(rule.workloads, 2):
        shared = by_workload[first] & by_workload[second]
        if shared:
            yield f"{first} and {second} share {rule.over} {min(map(str, shared))}"


def _check_survive(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    """Capacity is not in the plan per copy: what is checked is that no domain holds every replica of the workload."""
    serving = {r.group for r in plan.routes.get(rule.workload, ())}
    groups = [g for g in plan.groups if g.id in serving]
    if len(_domains(groups, spec, rule.loss)) < 2:
        yield f"every replica of {rule.workload} stands in one {rule.loss}"


CHECKS: Mapping[str, Callable[[Plan, Spec, Any], Iterator[str]]] = {
    "max_gpus": _check_max_gpus,
    "budget": _check_budget,
    "min_replicas": _check_min_replicas,
    "max_replicas": _check_max_replicas,
    "spread": _check_spread,
    "avoid": _check_avoid,
    "pin": _check_pin,
    "never_together": _check_never_together,
    "survive": _check_survive,
}


def _rule(plan: Plan, spec: Spec, rule: Any) -> Iterator[str]:
    return CHECKS[rule.kind](plan, spec, rule)
