"""Relaxations that are known to help: the spec with one change is planned again, and the plan says what is needed."""

import re
from collections.abc import Callable
from math import ceil
from typing import Any

from planner.plan_file import Plan, Relaxation
from planner.spec_edit import field_values
from planner.spec_load import Loaded, spec_from_plan

MOST_TRIED = 3
UNLIMITED_USD = 1e9
UNLIMITED_GPUS = 1_000_000
GROWTH = 2

RULE = re.compile(r"constraints\[(\d+)\]")
SUPPLY = re.compile(r"cluster\.pools\.(.+)\.(nodes|max_nodes)")

Replan = Callable[[Loaded], Plan]


def proven(loaded: Loaded, relaxations: tuple[Relaxation, ...], replan: Replan) -> tuple[Relaxation, ...]:
    """The relaxations, the first few of a budget, a GPU limit or a supply tried for real.

    One that is tried and gives a plan says the figure of that plan and is marked sufficient; a supply that does not
    help even when grown is left out. The others stay as they are: a lower limit of what is needed.
    """
    found = []
    tried = 0
    for one in relaxations:
        attempt = _attempt(loaded, one) if tried < MOST_TRIED else None
        if attempt is None:
            found.append(one)
            continue
        tried += 1
        changed = attempt(replan)
        if changed is not None:
            found.append(changed)
    return tuple(found)


def _attempt(loaded: Loaded, one: Relaxation) -> Callable[[Replan], Relaxation | None] | None:
    rule, supply = RULE.fullmatch(one.field), SUPPLY.fullmatch(one.field)
    if supply is not None:
        return lambda replan: _more_nodes(loaded, one, supply, replan)
    if rule is None:
        return None
    index = int(rule.group(1))
    kind = loaded.spec.constraints[index].kind
    if kind == "budget":
        return lambda replan: _budget(loaded, one, index, replan)
    if kind == "max_gpus":
        return lambda replan: _max_gpus(loaded, one, index, replan)
    return None


def _data(loaded: Loaded) -> dict[str, Any]:
    return loaded.spec.model_dump(mode="json", exclude_none=True)


def _planned(loaded: Loaded, data: dict[str, Any], replan: Replan) -> Plan | None:
    plan = replan(spec_from_plan(data, loaded.folder))
    return plan if plan.groups and plan.verified is not None and plan.verified.held else None


def _budget(loaded: Loaded, one: Relaxation, index: int, replan: Replan) -> Relaxation | None:
    data = _data(loaded)
    data["constraints"][index]["usd_per_hour"] = UNLIMITED_USD
    plan = _planned(loaded, data, replan)
    if plan is None or plan.cost_usd_per_hour is None:
        return None
    needed = ceil(plan.cost_usd_per_hour * 100) / 100
    return _said(one, f"a budget of {needed:,.2f} USD/h instead of {one.now:,.2f}", needed)


def _max_gpus(loaded: Loaded, one: Relaxation, index: int, replan: Replan) -> Relaxation | None:
    data = _data(loaded)
    data["constraints"][index]["count"] = UNLIMITED_GPUS
    pool = data["constraints"][index].get("pool")
    plan = _planned(loaded, data, replan)
    if plan is None:
        return None
    bought = sum(count.bought for name, count in plan.gpu_counts.items() if pool in (None, name))
    where = f" in pool {pool}" if pool else ""
    return _said(one, f"at most {bought} GPUs{where} instead of {one.now:g}", bought)


def _more_nodes(loaded: Loaded, one: Relaxation, supply: re.Match[str], replan: Replan) -> Relaxation | None:
    name, field = supply.group(1), supply.group(2)
    data = _data(loaded)
    pool = next(p for p in data["cluster"]["pools"] if p["name"] == name)

    def planned(nodes: int) -> Plan | None:
        pool[field] = nodes
        return _planned(loaded, data, replan)

    now, nodes = round(float(one.now or 0)), round(float(one.needed or 0))
    for _ in range(GROWTH):
        plan = planned(nodes)
        if plan is not None:
            used = plan.gpu_counts[name].nodes
            nodes = used if now < used < nodes and planned(used) else nodes
            kind = pool["gpu"] if isinstance(pool["gpu"], str) else pool["gpu"]["name"]
            more = nodes - now
            return _said(one, f"{more * pool['gpus_per_node']} more {kind} ({more} nodes) in pool {name}", nodes)
        nodes = max(nodes + 1, ceil(nodes * 1.5))
    return None


def _said(one: Relaxation, what: str, needed: float) -> Relaxation:
    return one.model_copy(update={"what": what, "needed": float(needed), "sufficient": True})


FIGURES = {
    "budget": "usd_per_hour",
    "max_gpus": "count",
    "min_replicas": "count",
    "max_replicas": "count",
    "spread": "min_domains",
    "survive": "fraction",
}
"""The figure of a constraint that a relaxation is about."""


def change_of(loaded: Loaded, one: Relaxation) -> tuple[str, float] | None:
    """The change of the spec that a relaxation stands for, as (path, value); None where it is no one figure."""
    if one.needed is None or isinstance(one.needed, str):
        return None
    rule = RULE.fullmatch(one.field)
    path = one.field
    if rule is not None:
        figure = FIGURES.get(loaded.spec.constraints[int(rule.group(1))].kind)
        if figure is None:
            return None
        path = f"{path}.{figure}"
    (now,) = field_values(loaded, path)
    if now is None:
        return None
    return path, ceil(one.needed) if isinstance(now, int) else one.needed
