"""The rules of a spec, word by word: queues they forbid, rows they add to the mix, what they ask of placement.

One function a word; the table at the end is the list of words. Each has an independent check in `rule_check`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from planner.demand import Demand, WorkloadDemand
from planner.fleet import Pool
from planner.queues import Queue
from solvers.mix_problem import Block, RuleRow, SurviveRow

LEVELS = {"node": 0, "rack": 1, "zone": 2}
LEAST_CARRIED = 0.01
"""Of its demands' rate, by all the copies that a queue can have, where a rule counts them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the rules speak of."""

    pools: tuple[Pool, ...]
    workloads: tuple[WorkloadDemand, ...]
    demands: tuple[Demand, ...]
    queues: tuple[Queue, ...]

    def queues_of(self, rule: Any) -> list[Queue]:
        """The queues that serve what the rule names: a workload, or any workload of a model; and its pool, if named."""
        wanted = {w.index for w in self.workloads if _names(rule, w)}
        pool = getattr(rule, "pool", None)
        return [
            q
            for q in self.queues
            if wanted & {self.demands[d].workload for d, _ in q.parts} and pool in (None, q.template.pool.name)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadWish:
    """The copies of these queues stand in at least so many domains of the level."""

    rule: str
    queues: tuple[int, ...]
    level: int
    min_domains: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartWish:
    """Copies of the first and of the second queues never share a domain of the level."""

    rule: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    level: int


@dataclass(slots=True, kw_only=True)
class Rows:
    """What the rules of a spec come to."""

    rules: list[RuleRow] = field(default_factory=list)
    survive: list[SurviveRow] = field(default_factory=list)
    spread: list[SpreadWish] = field(default_factory=list)
    apart: list[ApartWish] = field(default_factory=list)
    cap_level: dict[int, int] = field(default_factory=dict)
    """Queue → level (node, rack) whose loss it must survive."""


def allowed(rule: Any, workload: WorkloadDemand, pool: Pool) -> bool:
    """Whether a rule lets a workload use a pool: `avoid` and `pin` decide, every other word lets it."""
    if not _names(rule, workload):
        return True
    if rule.kind == "avoid":
        return bool(rule.pool != pool.name)
    if rule.kind == "pin":
        return bool(rule.pool in (None, pool.name) and rule.zone in (None, pool.zone))
    return True


def copies_asked(rules: tuple[Any, ...], workload: WorkloadDemand, copies: int) -> int:
    """Copies of a queue of the workload that the rules may need, where its rate alone could need so many."""
    most = copies
    for rule in rules:
        if _names(rule, workload):
            most = max(most, getattr(rule, "count", 0), getattr(rule, "min_domains", 0))
        if rule.kind == "survive" and rule.workload == workload.name:
            most = max(most, 2 * copies)
    return most


def rows(rules: tuple[Any, ...], scene: Scene) -> Rows:
    """All rows of the spec's rules, in the order of the spec."""
    found = Rows()
    for position, rule in enumerate(rules):
        WORDS[rule.kind](rule, rule_name(position, rule), scene, found)
    return found


def rule_name(position: int, rule: Any) -> str:
    """How conflicts name the rule: its place in the spec and its words."""
    words = {k: v for k, v in rule.model_dump(exclude_none=True).items() if k != "kind"}
    said = ", ".join(f"{k} {_said(v)}" for k, v in words.items())
    return f"constraints[{position}]: {rule.kind} ({said})"


def _said(value: Any) -> str:
    return " and ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _names(rule: Any, workload: WorkloadDemand) -> bool:
    named = getattr(rule, "workload", None)
    model = getattr(rule, "model", None)
    if named is None and model is None:
        return False
    return named in (None, workload.name) and model in (None, workload.model)


def _max_gpus(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """At most `count` GPUs are paid for, in one pool or in all."""
    terms = tuple((Block.PAID_GPUS, p.index, 1.0) for p in scene.pools if rule.pool in (None, p.name))
    found.rules.append(RuleRow(rule=name, terms=terms, sense="<=", bound=float(rule.count)))


def _budget(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """What is paid an hour stays within `usd_per_hour`; reserved GPUs are paid either way and do not count."""
    terms = tuple((Block.PAID_GPUS, p.index, p.price_in_objective) for p in scene.pools if p.price_in_objective > 0)
    found.rules.append(RuleRow(rule=name, terms=terms, sense="<=", bound=float(rule.usd_per_hour)))


def _min_replicas(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """At least `count` replicas of a workload or model run, in one pool or in all."""
    queues = scene.queues_of(rule)
    terms = tuple((Block.COPIES, q.index, 1.0) for q in queues)
    found.rules.append(RuleRow(rule=name, terms=terms, sense=">=", bound=float(rule.count)))
    _carrying(name, queues, scene, found)


def _carrying(name: str, queues: list[Queue], scene: Scene, found: Rows) -> None:
    """Copies that a rule counts carry some of the traffic: idle ones beside a queue that takes it all do not count.

    Only where queues overlap in part can the flows leave one of them nothing.
    """
    for queue in queues:
        mine = {d for d, _ in queue.parts}
        if all(mine == other or not mine & other for other in ({d for d, _ in q.parts} for q in scene.queues)):
            continue
        rate = sum(scene.demands[d].rate_rps for d in mine)
        least = LEAST_CARRIED * rate / max(1, queue.max_copies)
        terms = ((Block.FLOW_RPS, queue.index, 1.0), (Block.COPIES, queue.index, -least))
        found.rules.append(RuleRow(rule=name, terms=terms, sense=">=", bound=0.0))


def _max_replicas(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """At most `count` replicas of a workload or model run, in one pool or in all."""
    terms = tuple((Block.COPIES, q.index, 1.0) for q in scene.queues_of(rule))
    found.rules.append(RuleRow(rule=name, terms=terms, sense="<=", bound=float(rule.count)))


def _spread(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """Replicas stand in at least `min_domains` nodes, racks or zones.

    Zones are decided here (k of Z zones are used: every Z − k + 1 of them hold a copy); nodes and racks by the
    placement, with the number of copies and of nodes that it needs as rows.
    """
    queues = scene.queues_of(rule)
    copies = tuple((Block.COPIES, q.index, 1.0) for q in queues)
    found.rules.append(RuleRow(rule=name, terms=copies, sense=">=", bound=float(rule.min_domains)))
    if rule.over == "zone":
        zones = sorted({p.zone for p in scene.pools})
        for some in combinations(zones, max(1, len(zones) - rule.min_domains + 1)):
            inside = tuple((Block.COPIES, q.index, 1.0) for q in queues if q.template.pool.zone in some)
            found.rules.append(RuleRow(rule=name, terms=inside, sense=">=", bound=1.0))
        if rule.min_domains > len(zones):
            found.rules.append(RuleRow(rule=name, terms=copies, sense="<=", bound=0.0))
    else:
        pools = {q.template.pool.index for q in queues}
        nodes = tuple((Block.NODES, p, 1.0) for p in sorted(pools))
        found.rules.append(RuleRow(rule=name, terms=nodes, sense=">=", bound=float(rule.min_domains)))
    _carrying(name, queues, scene, found)
    found.spread.append(
        SpreadWish(
            rule=name,
            queues=tuple(q.index for q in queues),
            level=LEVELS[rule.over],
            min_domains=rule.min_domains,
        )
    )


def _never_together(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """The named workloads never share a node, rack or zone: no two of them, pairwise. Shared replicas are ruled out."""
    indices = {w.name: w.index for w in scene.workloads}
    sets = []
    for workload in rule.workloads:
        serves = [q for q in scene.queues if indices[workload] in {scene.demands[d].workload for d, _ in q.parts}]
        sets.append({q.index for q in serves})
    for first, second in combinations(sets, 2):
        both = first & second
        if both:
            terms = tuple((Block.COPIES, q, 1.0) for q in sorted(both))
            found.rules.append(RuleRow(rule=name, terms=terms, sense="<=", bound=0.0))
        found.apart.append(
            ApartWish(
                rule=name,
                first=tuple(sorted(first - both)),
                second=tuple(sorted(second - both)),
                level=LEVELS[rule.over],
            )
        )


def _survive(rule: Any, name: str, scene: Scene, found: Rows) -> None:
    """After the loss of any one node, rack or zone, `fraction` of the workload's rate is still within capacity (F3)."""
    workload = next(w for w in scene.workloads if w.name == rule.workload)
    if rule.loss == "zone":
        for zone in sorted({p.zone for p in scene.pools}):
            lost = tuple(p.index for p in scene.pools if p.zone == zone)
            domains = np.ones(len(scene.pools), dtype=np.int64)
            found.survive.append(
                SurviveRow(
                    rule=name,
                    workload=workload.index,
                    fraction=rule.fraction,
                    kind="zone",
                    pool_domains=domains,
                    lost_pools=lost,
                )
            )
        return
    domains = np.array([p.max_nodes if rule.loss == "node" else p.racks for p in scene.pools], dtype=np.int64)
    found.survive.append(
        SurviveRow(
            rule=name,
            workload=workload.index,
            fraction=rule.fraction,
            kind="domain",
            pool_domains=domains,
            lost_pools=(),
        )
    )
    for queue in scene.queues_of(rule):
        level = LEVELS[rule.loss]
        found.cap_level[queue.index] = max(level, found.cap_level.get(queue.index, 0))


def _no_rows(_rule: Any, _name: str, _scene: Scene, _found: Rows) -> None:
    """`avoid` and `pin` decide which queues exist (see `allowed`)."""


WORDS: Mapping[str, Callable[[Any, str, Scene, Rows], None]] = {
    "max_gpus": _max_gpus,
    "budget": _budget,
    "min_replicas": _min_replicas,
    "max_replicas": _max_replicas,
    "spread": _spread,
    "never_together": _never_together,
    "avoid": _no_rows,
    "pin": _no_rows,
    "survive": _survive,
}
