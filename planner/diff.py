"""What changes from one plan to another."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from planner.plan_file import Group, Plan, WorkloadResult
from planner.render_plan import wrapped

HISTORY = ("name", "seed", "spec", "spec_digest", "wall_s", "objectives")
"""Fields that say how a plan came about, not what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: what it is about, what it was, what it is (None: it was not, or is no more there)."""

    subject: str
    old: str | None
    new: str | None


def diff_plans(old: Plan, new: Plan) -> list[Change]:
    """All changes: cost, hardware, replicas, engine settings, moves and what the workloads get.

    Empty only when the plans are equal but for their seed, their spec and how they were reached.
    """
    found = [*_money(old, new), *_replicas(old, new), *_moves(old, new), *_workloads(old, new)]
    return found or list(_details(old, new))


def changes_as_data(changes: list[Change]) -> list[dict[str, Any]]:
    """The changes as plain data for JSON."""
    return [asdict(change) for change in changes]


def render_diff(changes: list[Change]) -> str:
    """One line a change; says so when there is none."""
    if not changes:
        return "the plans are the same\n"
    lines = []
    for change in changes:
        if change.old is None:
            lines.append(f"+ {change.subject}: {change.new}")
        elif change.new is None:
            lines.append(f"- {change.subject}: {change.old}")
        else:
            lines.append(f"~ {change.subject}: {change.old} → {change.new}")
    return "\n".join(wrapped(line) for line in lines) + "\n"


def _changed(subject: str, old: str | None, new: str | None) -> Iterator[Change]:
    if old != new:
        yield Change(subject=subject, old=old, new=new)


def _money(old: Plan, new: Plan) -> Iterator[Change]:
    yield from _changed("cost", _usd(old.cost_usd_per_hour), _usd(new.cost_usd_per_hour))
    yield from _changed("reserved, paid either way", _usd(old.sunk_usd_per_hour), _usd(new.sunk_usd_per_hour))
    for pool in dict.fromkeys([*old.gpu_counts, *new.gpu_counts]):
        before, after = old.gpu_counts.get(pool), new.gpu_counts.get(pool)
        yield from _changed(
            f"GPUs of {pool}",
            f"{before.bought}" if before and before.bought else None,
            f"{after.bought}" if after and after.bought else None,
        )
        if before and after and before.bought and after.bought:
            yield from _changed(
                f"price of {pool}", *(f"{c.price_usd_per_gpu_hour:g} USD/GPU-h" for c in (before, after))
            )


def _usd(cost: float | None) -> str:
    return "no plan" if cost is None else f"{cost:,.2f} USD/h"


def _replicas(old: Plan, new: Plan) -> Iterator[Change]:
    before, after = _queues(old), _queues(new)
    for queue in dict.fromkeys([*before, *after]):
        was, now = before.get(queue), after.get(queue)
        yield from _changed(f"replicas of {queue}", f"{len(was)}" if was else None, f"{len(now)}" if now else None)
        if was and now:
            yield from _settings(queue, was[0], now[0])


def _queues(plan: Plan) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in plan.groups:
        found.setdefault(group.queue, []).append(group)
    return found


def _settings(queue: str, old: Group, new: Group) -> Iterator[Change]:
    """The settings that differ, by the engine's own names."""
    before, after = _told(old), _told(new)
    names = [name for name in dict.fromkeys([*before, *after]) if before.get(name) != after.get(name)]
    if names:
        yield Change(
            subject=f"settings of {queue}",
            old=", ".join(f"{name} {before.get(name, '–')}" for name in names),
            new=", ".join(f"{name} {after.get(name, '–')}" for name in names),
        )


def _told(group: Group) -> dict[str, object]:
    replica = group.replicas[0]
    layout = {"gpu": group.gpu, "tp": group.tp, "pp": group.pp, "ep": group.ep, "quantization": replica.quantization}
    return {**layout, **(replica.engine.model_dump() if replica.engine else {"batch": replica.batch})}


def _moves(old: Plan, new: Plan) -> Iterator[Change]:
    """Per queue, the GPUs that it leaves and those that it comes to."""
    before, after = _standing(old), _standing(new)
    for queue in dict.fromkeys([*before, *after]):
        if queue not in before or queue not in after:
            continue
        left, come = before[queue] - after[queue], after[queue] - before[queue]
        if left or come:
            yield Change(subject=f"GPUs of {queue}", old=_nodes(left), new=_nodes(come))


def _standing(plan: Plan) -> dict[str, set[tuple[str, int]]]:
    found: dict[str, set[tuple[str, int]]] = {}
    for group in plan.groups:
        found.setdefault(group.queue, set()).update((gpu.node, gpu.index) for gpu in group.gpu_ids)
    return found


def _nodes(gpus: set[tuple[str, int]]) -> str:
    nodes: dict[str, list[str]] = {}
    for node, index in sorted(gpus):
        nodes.setdefault(node, []).append(str(index))
    return ", ".join(f"{node} {' '.join(indices)}" for node, indices in nodes.items()) or "none"


def _details(old: Plan, new: Plan) -> Iterator[Change]:
    """Plans that agree in all of the above may still differ: the fields in which they do."""
    for name in Plan.model_fields:
        if name not in HISTORY and getattr(old, name) != getattr(new, name):
            yield Change(subject=f"details of {name}", old="differ", new="see the files")


def _workloads(old: Plan, new: Plan) -> Iterator[Change]:
    for name in dict.fromkeys([*old.workloads, *new.workloads]):
        was, now = old.workloads.get(name), new.workloads.get(name)
        if was is None or now is None:
            yield Change(subject=f"workload {name}", old=_got(was) if was else None, new=_got(now) if now else None)
            continue
        yield from _changed(f"SLO of {name}", _asked(was), _asked(now))
        yield from _changed(f"rate of {name}", f"{was.rate_rps:g} requests/s", f"{now.rate_rps:g} requests/s")
        yield from _changed(f"{name} gets", _got(was), _got(now))


def _asked(result: WorkloadResult) -> str:
    limits = ", ".join(f"{k} {v:g}" for k, v in result.slo.items()) or "no limit"
    return limits if result.attainment_target is None else f"{limits} for {result.attainment_target:.2%}"


def _got(result: WorkloadResult) -> str:
    parts = [f"{result.served_rps:g} requests/s"]
    if result.attainment is not None:
        parts.append(f"attained {result.attainment:.2%}")
    for label, values in (("TTFT", result.ttft_ms), ("TPOT", result.tpot_ms)):
        if values is not None:
            parts.append(f"{label} p99 {values.p99:,.1f} ms")
    return ", ".join(parts)
