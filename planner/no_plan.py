"""Why there is no plan, and the cheapest things to relax, in units a person can act on (F8)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from planner.capacity import BRACKETS
from planner.demand import WorkloadDemand
from planner.fleet import Pool
from planner.mix_build import Market
from planner.plan_file import Relaxation
from planner.queue_build import Candidates, Miss, room_for_copies
from planner.queues import Queue
from planner.words import Rows, SpreadWish
from profiles.units import ms_from_s
from solvers import conflicts
from solvers.mix_model import Party
from solvers.mix_problem import Block, MixProblem
from solvers.stop import Stop

MOST_REFUSALS = 4
FIGURE = re.compile(r"\b(usd_per_hour|count|min_domains|fraction) ([0-9.e+-]+)")
LEAST = {"min_domains": 2.0, "fraction": 1e-6}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlan:
    """Sentences that cannot hold together, what stays unmet (workload → requests/s), and what would help."""

    conflicts: tuple[str, ...]
    unmet: dict[str, float]
    relaxations: tuple[Relaxation, ...]


def unservable(workloads: Sequence[WorkloadDemand], candidates: Candidates, queues_of: dict[int, int]) -> NoPlan | None:
    """Workloads that no template serves, whatever the number of replicas; None when every one has a queue.

    `queues_of`: workload → number of queues that serve it.
    """
    found: list[str] = []
    relaxations: list[Relaxation] = []
    unmet: dict[str, float] = {}
    for workload in workloads:
        if queues_of.get(workload.index, 0) or workload.best_effort:
            continue
        unmet[workload.name] = workload.rate_rps
        misses = [m for m in candidates.misses if m.workload == workload.index]
        if misses:
            sentences, changes = _latency(workload, misses)
            found += sentences
            relaxations += changes
        else:
            found += _does_not_run(workload, candidates)
    return NoPlan(conflicts=tuple(found), unmet=unmet, relaxations=tuple(relaxations)) if found else None


def idle(workloads: Sequence[WorkloadDemand], candidates: Candidates, queues_of: dict[int, int]) -> tuple[str, ...]:
    """Why a plan that may leave demand unmet runs nothing at all: one reason or more for each workload."""
    found: list[str] = []
    for workload in workloads:
        misses = [m for m in candidates.misses if m.workload == workload.index]
        if queues_of.get(workload.index, 0):
            what = "best effort buys no GPU, and none is left" if workload.best_effort else "no replica fits the rules"
            found.append(f"{workload.name}: {what} in the pools that it may use.")
        else:
            found += _latency(workload, misses)[0] if misses else _does_not_run(workload, candidates)
    return tuple(found)


def _latency(workload: WorkloadDemand, misses: Sequence[Miss]) -> tuple[list[str], list[Relaxation]]:
    """The template whose worst miss is least, relatively, says what the limits must be at least."""
    by_template: dict[str, list[Miss]] = {}
    for miss in misses:
        by_template.setdefault(miss.template, []).append(miss)

    def excess(group: list[Miss]) -> float:
        return max(m.needed_s / _limit_s(workload, m.limit) for m in group)

    nearest = min(by_template.values(), key=lambda g: (excess(g), g[0].template))
    # The workload may miss one limit in several mixes: what is least needed is what it needs at least.
    least = {miss.limit: miss for miss in sorted(nearest, key=lambda m: -m.needed_s)}
    sentences, changes = [], []
    for miss in (least[limit] for limit in sorted(least, reverse=True)):
        # Rounded up: a limit rounded down would be missed again.
        needed = ceil(ms_from_s(miss.needed_s) * 1.01)
        kind = miss.limit.removesuffix("_ms").upper()
        now = ms_from_s(_limit_s(workload, miss.limit))
        sentences.append(
            f"{kind} of {workload.name} must be at least {needed} ms on any allowed GPU (asked: {now:g} ms): one"
            f" request alone already misses it, so no number of replicas helps. Nearest: {miss.template}."
        )
        changes.append(
            Relaxation(
                what=f"allow {kind} of {workload.name} of {needed} ms",
                field=f"workloads.{workload.name}.slo.{miss.limit}",
                now=round(now, 3),
                needed=float(needed),
            )
        )
    return sentences, changes


def _limit_s(workload: WorkloadDemand, limit: str) -> float:
    return float(getattr(workload.slo, limit.removesuffix("_ms") + "_s"))


def _does_not_run(workload: WorkloadDemand, candidates: Candidates) -> list[str]:
    refused = [r for r in candidates.refused if r.model == workload.model]
    if not refused:
        return [
            f"{workload.name}: no template of {workload.model} can hold its SLO at any rate, and no pool is left that"
            " the rules allow. Loosen its limits, or allow another GPU, tp or quantization."
        ]
    reasons = list(dict.fromkeys(r.sentence for r in refused))
    more = f" (and {len(reasons) - MOST_REFUSALS} more)" if len(reasons) > MOST_REFUSALS else ""
    return [f"{workload.name}: {workload.model} runs on no allowed pool. " + " ".join(reasons[:MOST_REFUSALS]) + more]


def unreachable(market: Market, rows: Rows) -> NoPlan | None:
    """Spread rules that ask for more nodes, racks or zones than the pools that may serve have; None without any."""
    sentences: list[str] = []
    changes: list[Relaxation] = []
    for wish in rows.spread:
        pools = {market.queues[q].template.pool.index: market.queues[q].template.pool for q in wish.queues}
        there = _domains(list(pools.values()), wish.level)
        if there >= wish.min_domains:
            continue
        word = ("node", "rack", "zone")[wish.level]
        names = ", ".join(sorted(p.name for p in pools.values())) or "that it may use"
        sentences.append(f"{wish.rule}: {wish.min_domains} {word}s are asked for, but pools {names} have {there}")
        changes.append(_fewer_domains(wish, there, word))
    return NoPlan(conflicts=tuple(sentences), unmet={}, relaxations=tuple(changes)) if sentences else None


def _fewer_domains(wish: SpreadWish, there: int, word: str) -> Relaxation:
    place = wish.rule.split(":")[0]
    missing = wish.min_domains - there
    added = f"add {missing} {word}{'s' if missing > 1 else ''}"
    if there < LEAST["min_domains"]:
        return Relaxation(what=f"{added}, or go without {wish.rule}", field=place)
    return Relaxation(
        what=f"spread over {there} {word}s, or {added}",
        field=f"{place}.min_domains",
        now=float(wish.min_domains),
        needed=float(there),
    )


def _domains(pools: Sequence[Pool], level: int) -> int:
    """Nodes, racks or zones that the pools have together; racks belong to one pool."""
    if level == 2:
        return len({p.zone for p in pools})
    return sum(p.max_nodes if level == 0 else p.racks for p in pools)


def roomier(market: Market) -> Market:
    """The market with as many copies of each queue as could carry its demands, room or not: then what limits them is
    the supply of their pool, and a conflict names it. Queues whose copies do not fill a node stay as they are.
    """
    return replace(market, queues=tuple(_roomier(market, queue) for queue in market.queues))


def _roomier(market: Market, queue: Queue) -> Queue:
    pool, size = queue.template.pool, queue.template.gpus
    if room_for_copies(pool, size) * size != pool.max_nodes * pool.gpus_per_node:
        return queue
    rate = sum(market.demands[demand].rate_rps for demand, _ in queue.parts)
    carrying = (n for n, rps in zip(BRACKETS, queue.analytic_rps, strict=True) if n * rps >= rate)
    counted = (Block.COPIES, queue.index, 1.0)
    asked = [int(rule.bound) for rule in market.rules if rule.sense == ">=" and counted in rule.terms]
    return replace(queue, max_copies=max(queue.max_copies, 2 * next(carrying, BRACKETS[-1]), *asked))


def explain(market: Market, problem: MixProblem, stop: Stop, seed: int) -> NoPlan:
    """The rules, supplies and demands that conflict, what is short by priority, and the smallest changes."""
    conflict = conflicts.explain(problem, stop, seed)
    sentences = [_party(market, party) for party in conflict.parties]
    if not sentences:
        sentences = ["no number of replicas of any template adds up to the demands"]
    unmet: dict[str, float] = {}
    if conflict.shortage is not None:
        for demand, rate in zip(market.demands, conflict.shortage.unmet_rps, strict=True):
            if rate > 0:
                name = market.workloads[demand.workload].name
                unmet[name] = round(unmet.get(name, 0.0) + float(rate), 6)
    changes = [_relaxation(market, one) for one in conflict.relaxations]
    return NoPlan(conflicts=tuple(sentences), unmet=unmet, relaxations=tuple(dict.fromkeys(changes)))


def _party(market: Market, party: Party) -> str:
    if party.kind == "rule":
        return party.name
    if party.kind == "supply":
        return _supply(market.pools[party.index])
    workload = market.workloads[party.index]
    return f"workload {workload.name}: {workload.rate_rps:g} requests/s"


def _supply(pool: Pool) -> str:
    return f"pool {pool.name}: at most {pool.max_nodes} nodes of {pool.gpus_per_node} {pool.gpu.name}"


def _relaxation(market: Market, one: conflicts.Relaxation) -> Relaxation:
    if one.party.kind == "supply":
        return _more_supply(market.pools[one.party.index], one)
    if one.party.kind == "demand":
        return _less_demand(market.workloads[one.party.index], one)
    return _other_rule(one)


def _more_supply(pool: Pool, one: conflicts.Relaxation) -> Relaxation:
    more = round(one.needed - one.now)
    field = "nodes" if pool.given else "max_nodes"
    return Relaxation(
        what=f"{more * pool.gpus_per_node} more {pool.gpu.name} ({more} nodes) in pool {pool.name}",
        field=f"cluster.pools.{pool.name}.{field}",
        now=one.now,
        needed=one.needed,
    )


def _less_demand(workload: WorkloadDemand, one: conflicts.Relaxation) -> Relaxation:
    # Rounded down: a rate rounded up would not be served.
    needed = float(np.floor(one.needed * 1000) / 1000)
    if needed <= 0:
        return Relaxation(what=f"leave {workload.name} out", field=f"workloads.{workload.name}")
    return Relaxation(
        what=f"serve {workload.name} at {needed:g} instead of {one.now:g} requests/s",
        field=f"workloads.{workload.name}.traffic.rate_rps",
        now=round(one.now, 6),
        needed=needed,
    )


def _other_rule(one: conflicts.Relaxation) -> Relaxation:
    """Another figure in the rule; without the rule where its row is not about a figure, or none would be allowed."""
    name = one.party.name.removeprefix("placement: ")
    field = name.split(":")[0]
    figure = FIGURE.search(name)
    if figure is None or float(figure[2]) != one.now or one.needed < LEAST.get(figure[1], 0.0):
        return Relaxation(what=f"without {name}", field=field)
    return Relaxation(
        what=f"{name}: {one.needed:g} instead of {one.now:g}",
        field=field,
        now=round(one.now, 6),
        needed=round(one.needed, 6),
    )
