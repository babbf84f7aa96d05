"""A plan taken up again: its own cells, simulated on fresh traffic or on a given trace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from planner.cells import CellKey, CellRun, CellSimulator, Draws
from planner.mix_build import Market
from planner.outcomes import Seen, jobs_of, observe
from planner.pipeline import PlanOptions, prepare
from planner.plan_file import Plan
from planner.plan_io import PlanFileError
from planner.progress import Progress
from planner.queues import LlmServing, Queue
from planner.routing import Attainment, attainments, cells_of
from planner.spec_load import spec_from_plan
from planner.trace_file import read_trace
from planner.traffic import RecordedTraffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a plan did on the traffic: attainment and latencies per workload, and how much was simulated.

    `simulator` gives the runs of its `cells` again, request by request.
    """

    attainments: tuple[Attainment, ...]
    seen: dict[str, Seen]
    requests: int
    simulate_s: float
    market: Market
    simulator: CellSimulator
    cells: tuple[CellKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic of a replay. `trace` replaces the traffic of `workload` (or of the only one), replayed as it is."""

    draws: int
    seed: int
    duration_s: float | None
    trace: Path | None
    workload: str | None


def replay(plan: Plan, folder: Path, traffic: Traffic, progress: Progress) -> Replay:
    """Simulate a plan. PlanFileError when it has no groups or was made from another catalogue."""
    market = planned_market(plan, folder, progress)
    duration = traffic.duration_s
    count = traffic.draws
    if traffic.trace is not None:
        market, duration = _with_trace(market, traffic)
        count = 1
    draws = Draws(market.workloads, market.demands, seed=traffic.seed, count=count, duration_s=duration)
    simulator = CellSimulator(market.queues, market.workloads, draws, PlanOptions().workers)
    cells = planned_cells(plan, market)
    start = progress.clock()
    jobs = jobs_of(market, simulator, cells)
    runs = _runs(simulator, jobs, progress)
    found = attainments(market, simulator, cells)
    seen = observe(market, jobs, runs, cells)
    return Replay(
        attainments=tuple(found),
        seen=seen,
        requests=simulator.simulated_requests,
        simulate_s=progress.clock() - start,
        market=market,
        simulator=simulator,
        cells=cells,
    )


def _runs(simulator: CellSimulator, jobs: Sequence[tuple[CellKey, int]], progress: Progress) -> list[CellRun]:
    """The jobs simulated a few at a time, so that progress is told and a stop is heard."""
    runs: list[CellRun] = []
    step = PlanOptions().workers
    for start in range(0, len(jobs), step):
        progress.go_on()
        progress.done_fraction = start / len(jobs)
        runs += simulator.run(jobs[start : start + step])
    return runs


def met(found: Replay, workload: int) -> bool:
    """Met on these draws: the mean, since fresh traffic tests a plan that the planning rule already made safe."""
    one = found.attainments[workload]
    return one.mean >= one.target


def replay_as_data(found: Replay) -> dict[str, Any]:
    """The replay as plain data for JSON: per workload requests, attainment, latencies in ms, evidence."""
    workloads = {}
    for attainment in found.attainments:
        workload = found.market.workloads[attainment.workload]
        seen = found.seen[workload.name]
        workloads[workload.name] = {
            "rate_rps": workload.traffic.mean_rate_rps,
            "requests": seen.requests,
            "attainment": attainment.mean,
            "attainment_standard_error": attainment.standard_error,
            "attainment_target": None if workload.best_effort else workload.attainment,
            "met": met(found, attainment.workload),
            "ttft_ms": seen.ttft_ms.model_dump() if seen.ttft_ms else None,
            "tpot_ms": seen.tpot_ms.model_dump() if seen.tpot_ms else None,
            "e2e_ms": seen.e2e_ms.model_dump() if seen.e2e_ms else None,
            "evidence": seen.evidence.model_dump(mode="json"),
        }
    return {
        "workloads": workloads,
        "requests": found.requests,
        "requests_per_wall_s": found.requests / found.simulate_s if found.simulate_s > 0 else None,
    }


def planned_market(plan: Plan, folder: Path, progress: Progress) -> Market:
    """The plan's spec taken up again, its queues with the plan's own settings. PlanFileError as in `replay`."""
    if not plan.groups:
        raise PlanFileError("the plan has no groups to simulate: it says why there is no plan.")
    for group in plan.groups:
        if group.kind != "dedicated":
            raise PlanFileError(f"{group.id[:80]} is {group.kind}: only dedicated groups are simulated yet.")
    loaded = spec_from_plan(plan.spec, folder)
    for workload in loaded.spec.workloads:
        if workload.name not in plan.workloads:
            raise PlanFileError(f"the plan has no figures of {workload.name}, a workload of its spec: plan again.")
    prepared = prepare(loaded, PlanOptions(seed=plan.seed), progress)
    return replace(prepared.market, queues=_as_planned(plan, prepared.market.queues))


def _as_planned(plan: Plan, queues: Sequence[Queue]) -> tuple[Queue, ...]:
    """The queues with the engine settings and KV sizes that the plan states."""
    replicas = {g.queue: g.replicas[0] for g in plan.groups}
    known = {q.id for q in queues}
    missing = sorted(set(replicas) - known)
    if missing:
        raise PlanFileError(f"the plan runs {missing[0]}, which the catalogue no longer gives: plan again.")
    found = []
    for queue in queues:
        replica = replicas.get(queue.id)
        serving = queue.template.serving
        if replica is not None and replica.engine is not None and isinstance(serving, LlmServing):
            limits = replace(
                serving.limits,
                max_num_seqs=replica.engine.max_num_seqs,
                max_num_batched_tokens=replica.engine.max_num_batched_tokens,
                max_model_len=replica.engine.max_model_len,
            )
            queue = replace(queue, template=replace(queue.template, serving=replace(serving, limits=limits)))
        found.append(queue)
    return tuple(found)


def _with_trace(market: Market, traffic: Traffic) -> tuple[Market, float]:
    if traffic.trace is None:
        raise ValueError("there is no trace")
    names = [w.name for w in market.workloads]
    name = traffic.workload or (names[0] if len(names) == 1 else None)
    if name not in names:
        raise PlanFileError(f"say with --workload which one the trace belongs to: {', '.join(names)}.")
    trace = read_trace(traffic.trace)
    recorded = RecordedTraffic(trace=trace)
    workloads = tuple(replace(w, traffic=recorded) if w.name == name else w for w in market.workloads)
    return replace(market, workloads=workloads), trace.span_s


def planned_cells(plan: Plan, market: Market) -> tuple[CellKey, ...]:
    """The plan's routes as cells: copies counted from its groups, flows from its weights."""
    copies = np.zeros(len(market.queues), dtype=np.int64)
    flow = np.zeros(len(market.queues))
    index = {q.id: q.index for q in market.queues}
    queue_of = {g.id: index[g.queue] for g in plan.groups}
    for group in plan.groups:
        copies[index[group.queue]] += 1
    for workload in market.workloads:
        served = plan.workloads[workload.name].served_rps
        for route in plan.routes.get(workload.name, ()):
            flow[queue_of[route.group]] += served * route.weight_fraction
    return cells_of(market, copies, flow)
