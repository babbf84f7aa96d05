"""Why a plan is as it is: what each workload costs, what limits it, and how much room is left."""

from dataclasses import asdict, dataclass
from typing import Any

from planner.plan_file import Group, Percentiles, Plan, WorkloadResult
from planner.render_plan import render_plan, wrapped

NEAR_FRACTION = 0.85
FULL_FRACTION = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why one workload is served as it is."""

    workload: str
    served_by: str
    gpus: float
    share_of_cost: float
    limited_by: str
    load_fraction: float | None


def explain_plan(plan: Plan) -> list[Reason]:
    """One reason a workload that is served, in the order of the plan; empty where there is no plan."""
    return [_reason(plan, name, result) for name, result in plan.workloads.items() if plan.routes.get(name)]


def reasons_as_data(reasons: list[Reason]) -> list[dict[str, Any]]:
    """The reasons as plain data for JSON."""
    return [asdict(reason) for reason in reasons]


def render_explanation(plan: Plan) -> str:
    """The reasons as text; for a spec without a plan, what conflicts and what would help."""
    if not plan.groups:
        return render_plan(plan)
    lines = [f"{plan.name}: {plan.cost_usd_per_hour:,.2f} USD/h. What it goes to, and what limits it:", ""]
    for reason in explain_plan(plan):
        lines.append(f"{reason.workload}: {reason.served_by}")
        gpus = "1 GPU" if reason.gpus == 1 else f"{reason.gpus:.4g} GPUs"
        lines.append(f"  {gpus}, {reason.share_of_cost:.0%} of what is used; {reason.limited_by}")
    idle = _idle(plan)
    if idle:
        lines += ["", *idle]
    lines += ["", *_bounds(plan)]
    lines += [f"{slack.queue}: {slack.reason}" for slack in plan.slack]
    return "\n".join(wrapped(line) for line in lines) + "\n"


def _reason(plan: Plan, name: str, result: WorkloadResult) -> Reason:
    groups = {g.id: g for g in plan.groups}
    mine = [groups[group] for group in dict.fromkeys(route.group for route in plan.routes[name])]
    users = _users(plan)
    gpus = sum(len(g.gpu_ids) / users[g.id] for g in mine)
    everything = sum(len(g.gpu_ids) * _price(plan, g) for g in plan.groups)
    cost = sum(len(g.gpu_ids) * _price(plan, g) / users[g.id] for g in mine)
    return Reason(
        workload=name,
        served_by=_served_by(mine),
        gpus=gpus,
        share_of_cost=cost / everything if everything else 0.0,
        limited_by=_limit(result),
        load_fraction=result.served_rps / result.capacity_rps if result.capacity_rps else None,
    )


def _users(plan: Plan) -> dict[str, int]:
    """How many workloads share each group: its GPUs are counted in equal parts."""
    found: dict[str, int] = {}
    for routes in plan.routes.values():
        for group in {route.group for route in routes}:
            found[group] = found.get(group, 0) + 1
    return found


def _price(plan: Plan, group: Group) -> float:
    return plan.gpu_counts[group.pool].price_usd_per_gpu_hour


def _served_by(groups: list[Group]) -> str:
    counts: dict[str, int] = {}
    for group in groups:
        label = f"{group.replicas[0].quantization} at tp {group.tp} pp {group.pp} on {group.pool}"
        counts[label] = counts.get(label, 0) + 1
    return ", ".join(f"{count} × {label}" for label, count in counts.items())


def _limit(result: WorkloadResult) -> str:
    """The limit that the tail comes nearest to, at the percentile that the plan states."""
    ratios = []
    for label, field, values in (
        ("TTFT", "ttft_ms", result.ttft_ms),
        ("TPOT", "tpot_ms", result.tpot_ms),
        ("end to end", "e2e_ms", result.e2e_ms),
    ):
        limit = result.slo.get(field)
        if limit is not None and values is not None:
            ratios.append((values.p99 / limit, label, values, limit))
    if not ratios:
        return "it has no limit: it takes what is left" if result.best_effort else "its capacity table is the limit"
    ratio, label, values, limit = max(ratios, key=lambda r: r[0])
    return _said(result, ratio, label, values, limit)


def _said(result: WorkloadResult, ratio: float, label: str, values: Percentiles, limit: float) -> str:
    near = f"p99 {label} {values.p99:,.1f} of {limit:,.0f} ms"
    full = result.capacity_rps > 0 and result.served_rps >= FULL_FRACTION * result.capacity_rps
    if ratio >= NEAR_FRACTION:
        return f"limited by {label} ({near})"
    if full:
        return f"limited by its throughput: {result.served_rps:,.4g} of {result.capacity_rps:,.4g} requests/s ({near})"
    return f"not near a limit ({near}): a whole replica, a rule or the buying unit gives it room"


def _idle(plan: Plan) -> list[str]:
    return [
        f"{pool}: {count.bought - count.used} of {count.bought} GPUs are bought and idle"
        " (nodes are bought whole, or a rule asks for them)"
        for pool, count in plan.gpu_counts.items()
        if count.bought > count.used
    ]


def _bounds(plan: Plan) -> list[str]:
    found = []
    if plan.bound_fluid is not None:
        found.append(f"No plan of this scope costs less than {plan.bound_fluid:,.2f} USD/h: {plan.bound_scope}.")
    if (plan.gap_fluid_fraction or 0.0) > 0.05:
        found.append(
            "The bound knows no bursts: replicas must stay below full load to meet tail limits, which it cannot see."
        )
    return found
