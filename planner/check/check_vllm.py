"""A whole check on a real engine: what to start, the windows, and the result."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.check.bind import Bound, bound_launches, local_devices
from planner.check.compare import Latencies, client_lag, compare, llm_cell, predicted, remeasured
from planner.check.load import CheckLoad, plan_load
from planner.check.on_engine import Running, Runtime, bursts, engines, warm_up, window
from planner.check.remeasure import Remeasuring, remeasuring, with_steps
from planner.check.result import CheckResult, GroupCheck, Requests, Slowdown, WorkloadCheck
from planner.check.windows import Window, joined
from planner.export.launch import launches_of
from planner.mix_build import Market
from planner.plan_file import Plan
from planner.progress import Progress
from planner.queues import LlmServing, Queue
from planner.replay import planned_market
from planner.runtime.environment import EngineEnvironment
from planner.runtime.errors import EngineError
from profiles.measured_steps import MeasuredSteps, find_steps
from profiles.precision import KvDtype, Quantization
from profiles.step_fit import WorkerTime, worker_cpu_s

SETTLE_S = 60.0
"""Between two windows the engines are idle: in the simulator they stand so far apart."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """How to check. `groups` and `node` pick what is started; `windows` of `duration_s` are sent one after another."""

    tolerance_fraction: float = 0.2
    duration_s: float = 60.0
    windows: int = 1
    seed: int = 2
    node: str | None = None
    groups: tuple[str, ...] = ()
    first_port: int = 8000
    dummy_weights: bool = False
    remeasure: bool = False
    """Measure the steps again before each window, on the plan's own engines."""
    cancelled: Callable[[], bool] = _never


@dataclass(slots=True, kw_only=True)
class _Measured:
    """What the windows gave: together, and for sharing groups alone."""

    together: list[Window]
    alone: dict[int, list[Window]]
    again: Remeasuring | None = None
    ended: str | None = None


def check_on_vllm(
    plan: Plan,
    folder: Path,
    options: CheckOptions,
    place: tuple[EngineEnvironment, Path],
    progress: Progress,
) -> CheckResult:
    """Check a plan on this machine's engine; `place` is the engine's environment and the folder for logs.

    What an engine does wrong (it dies, it hangs) is in the result. EngineError when nothing can be started at all: not
    enough devices or memory, a port that is taken; ExportError for plans that vLLM cannot run.
    """
    environment, logs = place
    launched = launches_of(plan, folder)
    market = planned_market(plan, folder, progress)
    engine = market.engine
    if environment.device != engine.device:
        raise EngineError(
            f"the plan is for {engine.name} on a {engine.device}, {environment.python} has vLLM for a"
            f" {environment.device}."
        )
    bounds, left_out = bound_launches(
        launched,
        local_devices(engine.device),
        node=options.node,
        groups=options.groups,
        first_port=options.first_port,
    )
    by_id = {q.id: q for q in market.queues}
    queues = [by_id[b.launch.group.queue] for b in bounds]
    runtime = Runtime(
        environment=environment,
        logs=logs,
        dummy_weights=options.dummy_weights,
        process_bytes=engine.process_overhead_bytes,
        cancelled=options.cancelled,
    )
    logs.mkdir(parents=True, exist_ok=True)
    measured = _Measured(together=[], alone={})
    running: list[Running] = []
    try:
        with engines(bounds, _vocabulary(bounds, queues), runtime, progress) as running:
            warm_up(running)
            measured.again = remeasuring(running) if options.remeasure else None
            for load in _loads(plan, market, running, options):
                _measure(load, running, options, measured, progress)
                if measured.ended:
                    break
    except EngineError as error:
        if not running:
            raise
        measured.ended = str(error)
    steps: list[MeasuredSteps] = []
    if measured.again and measured.together:
        steps = measured.again.steps(queues, on_cpu=environment.device == "cpu")
    report = _Report(
        plan=plan, market=market, queues=queues, options=options, measured=measured, running=running, steps=steps
    )
    return report.result(environment.version, (*left_out, *launched.left_out))


def _vocabulary(bounds: Sequence[Bound], queues: Sequence[Queue]) -> dict[str, int]:
    found = {}
    for bound, queue in zip(bounds, queues, strict=True):
        assert isinstance(queue.template.serving, LlmServing)
        found[bound.launch.group.id] = queue.template.serving.architecture.vocab_size
    return found


def _loads(plan: Plan, market: Market, running: Sequence[Running], options: CheckOptions) -> Iterator[CheckLoad]:
    names = [one.bound.launch.group.id for one in running]
    for number in range(options.windows):
        yield plan_load(plan, market, names, options.duration_s, options.seed + number)


def _measure(
    load: CheckLoad, running: Sequence[Running], options: CheckOptions, measured: _Measured, progress: Progress
) -> None:
    """One window: every group that shares a device alone, then all together, so that a noisy minute falls on both."""
    seed = options.seed + len(measured.together)
    told = f"window {len(measured.together) + 1} of {options.windows}"
    if measured.again:
        progress.say(f"{told}: measuring the steps again")
        measured.again.measure(seed, options.cancelled)
    for one in running:
        if one.bound.launch.device == "cpu":
            mine = set(one.bound.launch.gpu_indices)
            others = [o.target for o in running if not mine & set(o.bound.launch.gpu_indices)]
            bursts(one, others, seed, options.cancelled)
    for group, one in enumerate(running):
        if one.bound.neighbours:
            progress.say(f"{told}: {one.bound.launch.group.id} alone")
            part = load.of(load.group == group)
            found, measured.ended = window(running, part, options.duration_s, seed, options.cancelled)
            measured.alone.setdefault(group, []).append(found)
            if measured.ended:
                return
    progress.say(f"{told}: {load.due_s.size} requests in {options.duration_s:g} s")
    found, measured.ended = window(running, load, options.duration_s, seed, options.cancelled)
    measured.together.append(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """From the windows to the result."""

    plan: Plan
    market: Market
    queues: list[Queue]
    options: CheckOptions
    measured: _Measured
    running: Sequence[Running]
    steps: Sequence[MeasuredSteps]
    """As measured between the windows, one for each engine; empty when they were not."""

    def result(self, version: str, left_out: tuple[str, ...]) -> CheckResult:
        workloads, groups, errors = {}, {}, {}
        lag_ms, lagged = None, False
        if self.measured.together:
            whole = joined(self.measured.together, self.options.duration_s + SETTLE_S)
            workloads = self._workloads(whole)
            groups = {one.bound.launch.group.id: self._group(n, whole) for n, one in enumerate(self.running)}
            lag_ms, lagged = client_lag(whole.lag_s, workloads)
            errors = whole.errors
        ended = self.measured.ended
        kv_right = all(g.kv_tokens_measured == g.kv_tokens_predicted for g in groups.values())
        return CheckResult(
            plan=self.plan.name,
            spec_digest=self.plan.spec_digest,
            level="vllm",
            engine=f"{self.plan.engine} {version}",
            tolerance_fraction=self.options.tolerance_fraction,
            seed=self.options.seed,
            duration_s=self.options.duration_s,
            windows=self.options.windows,
            workloads=workloads,
            groups=groups,
            left_out=left_out,
            client_lag_p99_ms=lag_ms,
            client_lagged=lagged,
            errors=errors,
            notes=_notes(groups),
            ended=ended,
            held=ended is None and kv_right and bool(workloads) and all(w.held for w in workloads.values()),
        )

    def _workloads(self, whole: Window) -> dict[str, WorkloadCheck]:
        load, span_s = whole.load, whole.span_s
        guess = predicted([llm_cell(q) for q in self.queues], load)
        now = [llm_cell(with_steps(q, s)) for q, s in zip(self.queues, self.steps, strict=True)] if self.steps else []
        meanwhile = predicted(now, load) if now else None
        found = {}
        for workload in self.market.workloads:
            mine = (load.workload == workload.index) & whole.counts
            if mine.any():
                came = whole.latencies.of(mine)
                one = compare(workload, guess.of(mine), came, span_s, self.options.tolerance_fraction)
                if meanwhile is not None:
                    again = remeasured(workload, meanwhile.of(mine), came, span_s)
                    one = one.model_copy(update={"remeasured": again})
                found[workload.name] = one
        return found

    def _group(self, number: int, whole: Window) -> GroupCheck:
        load, seen = whole.load, whole.latencies
        one = self.running[number]
        serving = self.queues[number].template.serving
        assert isinstance(serving, LlmServing)
        mine = (load.group == number) & whole.counts
        law = self._measured_steps(number)
        again = self.steps[number] if self.steps else None
        return GroupCheck(
            queue=self.queues[number].id,
            model=one.bound.launch.model,
            devices=one.bound.launch.gpu_indices,
            start_s=round(one.start_s, 1),
            kv_tokens_predicted=serving.memory.kv_tokens or None,
            kv_tokens_measured=one.kv_tokens,
            worker_step_ms_predicted=_worker_step_ms(law, one.bursts),
            worker_step_ms_measured=_median_ms([b.cpu_s / b.steps for b in one.bursts]),
            worker_step_ms_remeasured=_worker_step_ms(again, one.bursts),
            steps=again,
            preemptions=one.preemptions,
            kv_used_peak_fraction=round(one.kv_used_peak_fraction, 4),
            waiting_peak=one.waiting_peak,
            slowdown=self._slowdown(number, seen.of(mine)),
            requests=Requests(
                due_s=tuple(load.due_s[mine].tolist()),
                input_tokens=tuple(load.input_tokens[mine].tolist()),
                output_tokens=tuple(load.output_tokens[mine].tolist()),
                ttft_s=_or_none(seen.ttft_s[mine]),
                tpot_s=_or_none(seen.tpot_s[mine]),
            ),
        )

    def _measured_steps(self, number: int) -> MeasuredSteps | None:
        template = self.queues[number].template
        serving = template.serving
        assert isinstance(serving, LlmServing)
        key = (Quantization(template.quantization), KvDtype(serving.kv_dtype), template.tp, template.pp, template.ep)
        return find_steps(template.pool.steps, serving.architecture.digest, key)

    def _slowdown(self, number: int, both: Latencies) -> Slowdown | None:
        if number not in self.measured.alone:
            return None
        window = joined(self.measured.alone[number], self.options.duration_s + SETTLE_S)
        lone = window.latencies.of(window.counts)
        return Slowdown(
            neighbours=self.running[number].bound.neighbours,
            tpot_factor=_factor(both.tpot_s, lone.tpot_s),
            ttft_factor=_factor(both.ttft_s, lone.ttft_s),
        )


def _worker_step_ms(steps: MeasuredSteps | None, bursts: Sequence[WorkerTime]) -> float | None:
    law = steps.worker_cpu if steps else None
    return _median_ms([worker_cpu_s(law, b) / b.steps for b in bursts]) if law else None


def _median_ms(seconds: Sequence[float]) -> float | None:
    return round(1000.0 * float(np.median(seconds)), 4) if seconds else None


def _or_none(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(v) else round(float(v), 6) for v in values)


def _factor(both: np.ndarray, lone: np.ndarray) -> float | None:
    both, lone = both[~np.isnan(both)], lone[~np.isnan(lone)]
    return round(float(np.median(both) / np.median(lone)), 4) if both.size and lone.size else None


def _notes(groups: dict[str, GroupCheck]) -> tuple[str, ...]:
    found = []
    for name, group in groups.items():
        if group.kv_tokens_measured != group.kv_tokens_predicted:
            found.append(
                f"{name}: the engine has {group.kv_tokens_measured} KV tokens,"
                f" the plan says {group.kv_tokens_predicted}"
            )
        if group.slowdown and group.slowdown.tpot_factor:
            found.append(
                f"{name} shares its device with {', '.join(group.slowdown.neighbours)}: TPOT is"
                f" {group.slowdown.tpot_factor:.2f} × that alone"
            )
    return tuple(found)
