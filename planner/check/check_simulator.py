"""`check --on simulator`: the plan's own figures against fresh draws of its traffic, or a trace; no engine needed."""

from collections.abc import Iterator
from pathlib import Path

from planner.check.compare import judged
from planner.check.result import SIMULATED, CheckResult, Figures, WorkloadCheck
from planner.plan_file import Plan, WorkloadResult
from planner.plan_io import PlanFileError
from planner.progress import Progress
from planner.replay import Replay, Traffic, replay


def check_on_simulator(
    plan: Plan, folder: Path, traffic: Traffic, tolerance_fraction: float, progress: Progress
) -> CheckResult:
    """The check; a workload holds within the tolerance, and where it attains the target that the plan says it does.

    PlanFileError when the draws would be those that made the plan, and as `replay` does.
    """
    if traffic.trace is None and traffic.seed == plan.seed:
        raise PlanFileError(f"the plan was made with the draws of seed {plan.seed}: name another one with --seed.")
    found = replay(plan, folder, traffic, progress)
    workloads = dict(_workloads(plan, found, tolerance_fraction))
    if not workloads:
        raise PlanFileError("no workload of the plan can be simulated: all are known only by a capacity table.")
    draws = found.simulator.draws
    return CheckResult(
        plan=plan.name,
        spec_digest=plan.spec_digest,
        level="simulator",
        engine="the simulator",
        tolerance_fraction=tolerance_fraction,
        seed=traffic.seed,
        duration_s=round(max(draws.duration_s(w.index) for w in found.market.workloads), 3),
        windows=draws.count,
        workloads=workloads,
        groups={},
        left_out=tuple(name for name in plan.workloads if name not in workloads),
        held=all(one.held for one in workloads.values()),
    )


def _workloads(plan: Plan, found: Replay, tolerance_fraction: float) -> Iterator[tuple[str, WorkloadCheck]]:
    for attainment in found.attainments:
        workload = found.market.workloads[attainment.workload]
        seen, planned = found.seen[workload.name], plan.workloads[workload.name]
        if not seen.requests:
            continue
        draws = found.simulator.draws
        measured = Figures(
            ttft_ms=seen.ttft_ms,
            tpot_ms=seen.tpot_ms,
            e2e_ms=seen.e2e_ms,
            attainment=None if workload.best_effort else round(attainment.mean, 4),
            served_rps=round(seen.served / (draws.count * draws.duration_s(workload.index)), 4),
        )
        one = judged(_planned(planned), measured, seen.requests, tolerance_fraction, SIMULATED)
        promised = planned.attainment is not None and planned.attainment >= attainment.target
        if promised and attainment.mean < attainment.target:
            why = f"attainment {attainment.mean:.2%} on fresh traffic, the target is {attainment.target:.2%}"
            one = one.model_copy(update={"why": (*one.why, why), "held": False})
        yield workload.name, one


def _planned(one: WorkloadResult) -> Figures:
    return Figures(
        ttft_ms=one.ttft_ms,
        tpot_ms=one.tpot_ms,
        e2e_ms=one.e2e_ms,
        attainment=None if one.best_effort else one.attainment,
        served_rps=one.served_rps,
    )
