"""`muxplan plan`, as calls: spec → templates → capacity → mix → placement → simulation → descent → plan."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from planner import no_plan, plan_build, relax
from planner.capacity_table import CapacityTable
from planner.cells import CellSimulator, Draws
from planner.descend import KeptCopy, descend
from planner.mix_build import Market, fluid_problem, mix_problem
from planner.outcomes import jobs_of, observe
from planner.place_build import nodes_of, place_problem, placed
from planner.plan_file import Plan
from planner.plan_memory import PlanMemory
from planner.progress import Deadline, Progress
from planner.queue_build import Candidates, Miss, Mix, llm_queues, mixes, numbered, room_for_copies
from planner.queue_measured import capacity_queues, latency_queues
from planner.queues import Queue
from planner.spec_load import Loaded
from planner.spec_resolve import Resolved, resolve
from planner.templates import Layouted, Refused, layouts
from planner.verify import Candidate, Found, Placed, Search
from planner.words import Rows, Scene, allowed, copies_asked, rows
from profiles.errors import PlanningError
from solvers import mix_bound
from solvers.mix_problem import MixSolution
from solvers.pulp_backend import available_solvers
from solvers.result import Result, Termination
from solvers.stop import Stop

DRAWS = 8
TABLE_OVERHEAD_S = 0.0
AFTERWARDS_S = 20.0
PLACEMENT_DETERMINISTIC_S = 2.0
SCOPE = (
    "dedicated replicas over the spec's tp × pp × ep × quantization (layouts on which a request alone meets its limits)"
    " and the planner's grid of max_num_seqs and max_num_batched_tokens; requests of a queue are routed without looking"
    " at their length, except by length class"
)


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How to plan; the same options and spec give the same plan unless the wall limit fires."""

    solver: str = "highs"
    seed: int = 0
    gap_fraction: float = 1e-3
    wall_limit_s: float = 60.0
    what_if: bool = False
    try_relaxations: bool = True
    draws: int = DRAWS
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    cancelled: Callable[[], bool] = _never
    memory: PlanMemory | None = None
    """What is kept for the next plan: it saves time and changes no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything before the first solve."""

    resolved: Resolved
    candidates: Candidates
    market: Market
    rows: Rows


def plan_spec(loaded: Loaded, options: PlanOptions, progress: Progress) -> Plan:
    """The plan for a spec, or the plan object that says why there is none.

    SpecError for a bad spec, PlanningError for a solver that is not there.
    """
    if options.solver not in available_solvers():
        raise PlanningError(f"there is no solver '{options.solver[:40]}' here: {', '.join(available_solvers())}.")
    prepared = prepare(loaded, options, progress)
    if not prepared.market.allow_unmet:
        hopeless = no_plan.unservable(
            prepared.resolved.workloads, prepared.candidates, _queues_of_workloads(prepared.market)
        )
        if hopeless is not None:
            return _infeasible(loaded, options, prepared, hopeless)
    unreachable = no_plan.unreachable(prepared.market, prepared.rows)
    if unreachable is not None:
        return _infeasible(loaded, options, prepared, unreachable)
    return _search(loaded, options, progress, prepared)


def _queues_of_workloads(market: Market) -> dict[int, int]:
    """Workload → queues that serve it at some rate."""
    serving = {w.index: 0 for w in market.workloads}
    for queue in market.queues:
        if queue.analytic_rps[-1] > 0:
            for workload in {market.demands[d].workload for d, _ in queue.parts}:
                serving[workload] += 1
    return serving


def prepare(loaded: Loaded, options: PlanOptions, progress: Progress) -> Prepared:
    """Names resolved, queues enumerated, rules written as rows."""
    with progress.stage("resolve"):
        resolved = resolve(loaded)
    with progress.stage("templates"):
        candidates = candidates_of(loaded, resolved, options)
    progress.say(f"{len(candidates.queues)} queues, {len(candidates.refused)} layouts refused")
    scene = Scene(
        pools=resolved.pools, workloads=resolved.workloads, demands=resolved.demands, queues=candidates.queues
    )
    ruled = rows(loaded.spec.constraints, scene)
    market = Market(
        pools=resolved.pools,
        workloads=resolved.workloads,
        demands=resolved.demands,
        queues=candidates.queues,
        rules=tuple(ruled.rules),
        survive=tuple(ruled.survive),
        allow_unmet=loaded.spec.allow_unmet,
        engine=resolved.engine,
    )
    return Prepared(resolved=resolved, candidates=candidates, market=market, rows=ruled)


def candidates_of(loaded: Loaded, resolved: Resolved, options: PlanOptions) -> Candidates:
    """All queues that the rules let be bought, numbered; with the layouts and limits that ruled others out."""
    found: list[Queue] = []
    refused: list[Refused] = []
    misses: list[Miss] = []
    layouted: dict[str, list[Layouted]] = {}
    memory = options.memory or PlanMemory()
    for model in resolved.models.values():
        for pool in resolved.pools:
            some, reasons = layouts(model, pool, resolved.engine, memory.steps)
            layouted.setdefault(model.name, []).extend(some)
            refused.extend(reasons)
    rng = np.random.default_rng([options.seed, 1])
    for mix in mixes(resolved.workloads, resolved.demands, rng):
        pools = {p.name for p in resolved.pools if _may_use(loaded, resolved, mix, p.index)}
        if mix.model in resolved.models:
            queues, missed = llm_queues([x for x in layouted[mix.model] if x.pool.name in pools], mix, memory.settings)
        else:
            queues, missed = _measured(resolved, mix, pools, refused)
        found += queues
        misses += missed
    roomy = [_roomy(queue, loaded, resolved) for queue in found]
    return Candidates(queues=numbered(roomy), refused=tuple(refused), misses=tuple(misses))


def _roomy(queue: Queue, loaded: Loaded, resolved: Resolved) -> Queue:
    """The queue with as many copies as the rules may ask for, as far as the pool has room."""
    most = max(
        copies_asked(loaded.spec.constraints, resolved.workloads[resolved.demands[d].workload], queue.max_copies)
        for d, _ in queue.parts
    )
    return replace(queue, max_copies=min(most, room_for_copies(queue.template.pool, queue.template.gpus)))


def _may_use(loaded: Loaded, resolved: Resolved, mix: Mix, pool: int) -> bool:
    return all(
        allowed(rule, resolved.workloads[w], resolved.pools[pool])
        for rule in loaded.spec.constraints
        for w in mix.workloads
    )


def _measured(
    resolved: Resolved, mix: Mix, allowed_pools: set[str], refused: list[Refused]
) -> tuple[list[Queue], list[Miss]]:
    pools = [p for p in resolved.pools if p.name in allowed_pools]
    if mix.model in resolved.latency:
        queues, reasons, misses = latency_queues(resolved.latency[mix.model], pools, mix, TABLE_OVERHEAD_S)
    else:
        queues, reasons = capacity_queues(resolved.capacity[mix.model], pools, mix)
        misses = []
    refused.extend(reasons)
    return queues, misses


def _search(loaded: Loaded, options: PlanOptions, progress: Progress, prepared: Prepared) -> Plan:
    market = prepared.market
    deadline = Deadline(limit_s=options.wall_limit_s, clock=progress.clock)
    stop = Stop(
        gap_fraction=options.gap_fraction,
        wall_limit_s=options.wall_limit_s,
        cancelled=lambda: options.cancelled() or deadline(),
    )
    placing = replace(stop, max_deterministic_s=PLACEMENT_DETERMINISTIC_S)
    # Reasons and bounds are owed even when the search was cut short.
    after = Stop(gap_fraction=options.gap_fraction, wall_limit_s=AFTERWARDS_S, cancelled=options.cancelled)
    table = CapacityTable(market.queues)
    draws = Draws(market.workloads, market.demands, seed=options.seed, count=options.draws)
    cells = options.memory.cells if options.memory is not None else None
    simulator = CellSimulator(market.queues, market.workloads, draws, options.workers, cells)
    nodes = nodes_of(market.pools)
    kept = _kept_nodes(loaded)

    def place(solution: MixSolution) -> Placed:
        problem = place_problem(market, prepared.rows, nodes, solution, kept)
        return placed(market, problem, solution, placing, options.seed)

    search = Search(
        market=market,
        table=table,
        simulator=simulator,
        place=place,
        stop=stop,
        seed=options.seed,
        solver=options.solver,
        progress=progress,
    )
    found = search.run()
    if found.best is None:
        with progress.stage("explain"):
            reasons = _why_none(prepared, found, table, after, options.seed)
            reasons = _tried(loaded, options, progress, reasons)
        return _infeasible(loaded, options, prepared, reasons, _ended(options, deadline, found.last.termination))
    with progress.stage("descend"):
        best, near = descend(market, found.best, search.changed, stop, progress)
    with progress.stage("bound"):
        fluid = mix_bound.bound(fluid_problem(market), after, options.seed, best.solution.stage_values)
    with progress.stage("report"):
        jobs = jobs_of(market, simulator, best.cells)
        seen = observe(market, jobs, simulator.run(jobs), best.cells)
    built = plan_build.build(market, nodes, best, seen, table, draws)
    ended = _ended(options, deadline, found.last.termination)
    outcome = _Outcome(found=found, best=best, near=near, fluid=fluid, built=built, ended=ended, draws=draws)
    return _plan(loaded, options, prepared, outcome)


def _tried(loaded: Loaded, options: PlanOptions, progress: Progress, reasons: no_plan.NoPlan) -> no_plan.NoPlan:
    """The relaxations with those that can be tried planned again, once."""
    if not options.try_relaxations or options.cancelled():
        return reasons
    progress.say("no plan: trying what would help")

    def replan(changed: Loaded) -> Plan:
        once = replace(options, try_relaxations=False)
        return plan_spec(changed, once, Progress(clock=progress.clock))

    return replace(reasons, relaxations=relax.proven(loaded, reasons.relaxations, replan))


def _ended(options: PlanOptions, deadline: Deadline, solved: Termination) -> Termination:
    """How the planning ended: what cut it short, else how the last solve did."""
    if options.cancelled():
        return Termination.CANCELLED
    return Termination.TIME_LIMIT if deadline.fired else solved


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    found: Found
    best: Candidate
    near: tuple[KeptCopy, ...]
    fluid: Result[MixSolution]
    built: plan_build.Built
    ended: Termination
    draws: Draws


def _kept_nodes(loaded: Loaded) -> Mapping[str, list[str]]:
    """Queue id → nodes where its copies stand in the plan that is running now."""
    if loaded.spec.current is None:
        return {}
    from planner.plan_io import read_plan

    running = read_plan(loaded.path(loaded.spec.current))
    kept: dict[str, list[str]] = {}
    for group in running.groups:
        kept.setdefault(group.queue, []).append(group.gpu_ids[0].node)
    return kept


def _why_none(prepared: Prepared, found: Found, table: CapacityTable, stop: Stop, seed: int) -> no_plan.NoPlan:
    if found.last.solution is None and found.last.termination is Termination.INFEASIBLE:
        problem = mix_problem(no_plan.roomier(prepared.market), table.brackets, found.cuts)
        return no_plan.explain(prepared.market, problem, stop, seed)
    if found.last.solution is None:
        return no_plan.NoPlan(
            conflicts=(f"no mix was found before the limits ended the search ({found.last.termination})",),
            unmet={},
            relaxations=(),
        )
    rules = [cut.rule for cut in found.cuts] or ["no placement was found for the cheapest mix within the limits"]
    return no_plan.NoPlan(conflicts=tuple(dict.fromkeys(rules)), unmet={}, relaxations=())


def _plan(loaded: Loaded, options: PlanOptions, prepared: Prepared, outcome: _Outcome) -> Plan:
    best, built = outcome.best, outcome.built
    cost = best.solution.cost_usd_per_hour
    bound_model = outcome.found.last.bound
    fluid = outcome.fluid.bound
    # The descent may end below the table's own optimum: the table was tightened further than this mix needs.
    bound_model = None if bound_model is None else min(bound_model, cost)
    fluid = None if fluid is None else min(fluid, cost)
    return Plan(
        name=loaded.spec.name,
        engine=prepared.resolved.engine.name,
        termination=outcome.ended.value,
        cost_usd_per_hour=round(cost, 6),
        sunk_usd_per_hour=round(sum(p.sunk_usd_per_hour for p in prepared.market.pools), 6),
        objectives={name: round(value, 6) for name, value in best.solution.stage_values},
        bound_fluid=_rounded(fluid),
        gap_fluid_fraction=_gap(cost, fluid),
        bound_model=_rounded(bound_model),
        gap_model_fraction=_gap(cost, bound_model),
        bound_scope=SCOPE,
        verified=built.verified,
        gpu_counts=built.gpu_counts,
        groups=built.groups,
        routes=built.routes,
        workloads=built.workloads,
        unmet=_unmet(prepared.market, best),
        slack=plan_build.slack_of(prepared.market, outcome.near),
        assumptions=_assumptions(prepared, outcome),
        conflicts=() if built.groups else _idle(prepared),
        seed=options.seed,
        spec_digest=prepared.resolved.digest,
        spec=loaded.spec.model_dump(mode="json"),
    )


def _idle(prepared: Prepared) -> tuple[str, ...]:
    return no_plan.idle(prepared.resolved.workloads, prepared.candidates, _queues_of_workloads(prepared.market))


def _assumptions(prepared: Prepared, outcome: _Outcome) -> tuple[str, ...]:
    resolved = prepared.resolved
    routers = sorted({w.router for w in resolved.workloads})
    own = [
        f"engine {resolved.engine.name} {resolved.engine.version}, gpu_memory_utilization"
        f" {resolved.engine.gpu_memory_utilization:g}",
        f"a router in front of the replicas of each workload: {', '.join(routers)}",
    ]
    if not resolved.engine.deployable_kinds:
        own.append(
            f"a what-if: plans for {resolved.engine.name} are simulated by its rules, but not exported, started or"
            " checked; the search before takes its steps to be filled as vLLM's"
        )
    measured = sorted(resolved.capacity)
    if measured:
        own.append(f"not simulated, taken from capacity tables as given: {', '.join(measured)}")
    own += [
        f"{w.name}: a wait of over {outcome.draws.slo(w.index).ttft_s:.3g} s counts as a miss: draws are too short to"
        " tell a longer one from overload"
        for w in resolved.workloads
        if w.model not in resolved.latency and outcome.draws.slo(w.index) != w.slo
    ]
    return (*resolved.assumptions, *own, *outcome.found.last.notes)


def _unmet(market: Market, best: Candidate) -> dict[str, float]:
    found: dict[str, float] = {}
    for demand, rate in zip(market.demands, best.solution.unmet_rps, strict=True):
        if rate > 0:
            name = market.workloads[demand.workload].name
            found[name] = round(found.get(name, 0.0) + float(rate), 6)
    return found


def _infeasible(
    loaded: Loaded,
    options: PlanOptions,
    prepared: Prepared,
    reasons: no_plan.NoPlan,
    ended: Termination = Termination.INFEASIBLE,
) -> Plan:
    stopped = (Termination.TIME_LIMIT, Termination.CANCELLED)
    return Plan(
        name=loaded.spec.name,
        engine=prepared.resolved.engine.name,
        termination=(ended if ended in stopped else Termination.INFEASIBLE).value,
        cost_usd_per_hour=None,
        objectives={},
        bound_fluid=None,
        gap_fluid_fraction=None,
        bound_model=None,
        gap_model_fraction=None,
        bound_scope=SCOPE,
        verified=None,
        gpu_counts={},
        groups=(),
        routes={},
        workloads={},
        unmet=reasons.unmet,
        assumptions=prepared.resolved.assumptions,
        conflicts=reasons.conflicts,
        relaxations=reasons.relaxations,
        seed=options.seed,
        spec_digest=prepared.resolved.digest,
        spec=loaded.spec.model_dump(mode="json"),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _gap(cost: float, bound: float | None) -> float | None:
    if bound is None:
        return None
    return round(max(0.0, (cost - bound) / cost), 6) if cost > 0 else 0.0
