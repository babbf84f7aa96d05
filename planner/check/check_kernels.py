"""`check --on kernels`: the step mix of a plan's groups as real kernels on the device at hand, against its own tables.

One device verifies a fleet group by group: each one's plan is predicted again for this device, from kernel tables that
were measured on it, and the same steps are then run on it with torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from planner.check.kernels_result import GroupKernels, KernelsResult, NeighbourSlowdown, StepFigures
from planner.check.step_kernels import StepBuilder
from planner.check.step_mix import MixStep, sampled
from planner.check.subjects import Subject, neighbours_of, steps_of, subjects_of
from planner.mix_build import Market
from planner.plan_file import Plan
from planner.progress import Progress
from planner.runtime.errors import EngineError
from planner.runtime.torch_worker import Device, TorchWorker
from profiles.gpus import Gpu
from profiles.interference import Demand, Interference
from profiles.precision import Execution, Quantization, execution

STEP_S = 1.0
"""How long one step is run over and over, warm-up not counted."""
PLAIN_FORMATS = {"fp32": Quantization.FP32, "bf16": Quantization.BF16, "fp16": Quantization.FP16}
RUNNABLE = frozenset({*PLAIN_FORMATS.values(), Quantization.FP8})
"""Weights that torch multiplies as they are."""
ENGINE_SENTENCE = "the engine's own time (scheduling, sampling, launches between kernels, the front end)"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """How to check; `groups` empty: one group of every template, one after another.

    `interference`: what is known of this device when kernels share it, None when nothing is.
    """

    python: Path
    device: Device
    cores: Sequence[int]
    tolerance_fraction: float
    duration_s: float
    seed: int
    steps: int
    groups: Sequence[str]
    interference: Interference | None
    cancelled: Callable[[], bool]


def check_on_kernels(plan: Plan, market: Market, gpu: Gpu, options: KernelOptions, progress: Progress) -> KernelsResult:
    """Check a plan (`market`: its spec taken up again) on a device that `gpu` describes, by tables measured on it.

    EngineError when the plan has no such group, or the device fails; ProfileError when it cannot run a model.
    """
    subjects = subjects_of(plan, market, options.groups)
    groups: dict[str, GroupKernels] = {}
    ended = None
    with TorchWorker(python=options.python, device=options.device, cores=options.cores) as worker:
        described = worker.ask({"do": "describe"})
        for subject in subjects:
            progress.say(f"{subject.group.id}: {subject.group.template}")
            check = _GroupCheck(
                plan=plan,
                market=market,
                subject=subject,
                gpu=gpu,
                options=options,
                cache_bytes=described["cache_bytes"],
            )
            try:
                groups[subject.group.id] = check.run(worker)
            except EngineError as error:
                if not groups:
                    raise
                ended = str(error)
                break
    return KernelsResult(
        plan=plan.name,
        spec_digest=plan.spec_digest,
        device=str(described["name"]),
        torch=str(described["torch"]),
        gpu=gpu.name,
        tolerance_fraction=options.tolerance_fraction,
        seed=options.seed,
        groups=groups,
        left_out=tuple(g.id for g in plan.groups if g.id not in groups),
        not_measured=(ENGINE_SENTENCE,),
        ended=ended,
        held=ended is None and bool(groups) and all(one.held for one in groups.values()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupCheck:
    """The check of one group."""

    plan: Plan
    market: Market
    subject: Subject
    gpu: Gpu
    options: KernelOptions
    cache_bytes: int

    def run(self, worker: TorchWorker) -> GroupKernels:
        """Run the group's steps alone, then beside the steps of each group that shares its GPU."""
        quantization, notes = self._format()
        allowed = self.options.tolerance_fraction
        builder = self._builder(self.subject, quantization)
        steps = self._steps(self.subject)
        figures = [self._step(step, builder, worker) for step in steps]
        neighbours = tuple(self._beside(steps, builder, worker))
        error = _total(figures, "measured_ms") / _total(figures, "predicted_ms") - 1.0
        return GroupKernels(
            template=self.subject.group.template,
            model=self.subject.queue.template.model,
            gpu=self.subject.group.gpu,
            quantization=str(quantization),
            steps=tuple(figures),
            error_fraction=round(error, 4),
            decode_error_fraction=_error([f for f in figures if not f.chunks]),
            prefill_error_fraction=_error([f for f in figures if f.chunks]),
            neighbours=neighbours,
            not_run=tuple(builder.left_out()),
            notes=tuple(notes),
            held=abs(error) <= allowed and all(abs(_off(one)) <= allowed for one in neighbours),
        )

    def _format(self) -> tuple[Quantization, list[str]]:
        """The plan's weights where this device can multiply them in a way that was measured, else plain ones."""
        planned = Quantization(self.subject.queue.template.quantization)
        own = PLAIN_FORMATS[self.gpu.half_precision]
        runs = planned in RUNNABLE and execution(planned, self.gpu.peak_flops) is Execution.NATIVE
        if runs and self._builder(self.subject, planned).has_products:
            return planned, []
        if not self._builder(self.subject, own).has_products:
            raise EngineError(
                f"the kernel tables of {self.gpu.name} have no products of {self.subject.queue.template.model}: measure"
                " them with `muxplan profile kernels --models`, or leave out --kernels."
            )
        if planned is own:
            return own, []
        return own, [f"weights are {planned} in the plan and {own} here: this device has no tables of the former"]

    def _builder(self, subject: Subject, quantization: Quantization) -> StepBuilder:
        deployment = subject.deployment(self.gpu, quantization, self.market.engine)
        return StepBuilder(deployment=deployment, cache_bytes=self.cache_bytes, budget_s=STEP_S)

    def _steps(self, subject: Subject) -> list[MixStep]:
        """Steps that stand for all of the group's."""
        steps = steps_of(subject, self.plan, self.market, self.options.duration_s, self.options.seed)
        return sampled(steps, self.options.steps)

    def _step(self, step: MixStep, builder: StepBuilder, worker: TorchWorker) -> StepFigures:
        if self.options.cancelled():
            raise EngineError("the check was cancelled.")
        built = builder.build(step)
        seconds = _ran(worker, built.request)
        low, middle, high = np.quantile(seconds, (0.1, 0.5, 0.9)).tolist()
        return StepFigures(
            weight_fraction=round(step.weight_fraction, 6),
            decodes=step.decodes,
            kv_tokens=step.kv_tokens,
            chunks=step.chunks,
            planned_ms=round(1e3 * step.predicted_s, 4),
            predicted_ms=round(1e3 * built.predicted_s, 4),
            measured_ms=round(1e3 * middle, 4),
            spread_fraction=round((high - low) / middle, 4),
        )

    def _beside(self, steps: Sequence[MixStep], builder: StepBuilder, worker: TorchWorker) -> list[NeighbourSlowdown]:
        """The slow-down of the steps beside each group on the same GPU, which runs its typical step all the time."""
        found = []
        for other in neighbours_of(self.subject, self.plan, self.market):
            typical = sorted(self._steps(other), key=lambda s: s.predicted_s)
            built = self._builder(other, PLAIN_FORMATS[self.gpu.half_precision]).build(typical[len(typical) // 2])
            with TorchWorker(python=self.options.python, device=self.options.device, cores=self.options.cores) as busy:
                alone_s = self._mean_s(steps, builder, worker)
                busy.ask({**built.request, "do": "busy"})
                beside_s = self._mean_s(steps, builder, worker)
                # Only a neighbour that is still at work answers this: it has been busy to the end.
                busy.ask({"do": "describe"})
            predicted = self._predicted(steps, builder, built.demand(other.group.replicas[0].sm_fraction))
            found.append(
                NeighbourSlowdown(
                    group=other.group.id,
                    measured=round(max(beside_s / alone_s, 1.0), 4),
                    predicted=predicted[0] if predicted else None,
                    evidence=predicted[1] if predicted else None,
                )
            )
        return found

    def _mean_s(self, steps: Sequence[MixStep], builder: StepBuilder, worker: TorchWorker) -> float:
        """Mean seconds of a step: where processes take turns, half of the runs may meet no neighbour."""
        means = [(step.weight_fraction, np.mean(_ran(worker, builder.build(step).request))) for step in steps]
        return float(sum(weight * mean for weight, mean in means))

    def _predicted(self, steps: Sequence[MixStep], builder: StepBuilder, neighbour: Demand) -> tuple[float, str] | None:
        """(slow-down of all steps, its evidence) by the interference file, None without one."""
        if self.options.interference is None:
            return None
        share = self.subject.group.replicas[0].sm_fraction
        slowed_s = alone_s = 0.0
        evidence = ""
        for step in steps:
            built = builder.build(step)
            factor, known = self.options.interference.predict(built.demand(share), [neighbour], self.gpu.name)
            alone_s += step.weight_fraction * built.predicted_s
            slowed_s += step.weight_fraction * built.predicted_s * factor
            evidence = str(known)
        return round(slowed_s / alone_s, 4), evidence


def _ran(worker: TorchWorker, request: dict[str, Any]) -> list[float]:
    answer = worker.ask(request)
    if "error" in answer:
        raise EngineError(f"a step cannot be run: {answer['error']}.")
    return [float(seconds) for seconds in answer["seconds"]]


def _total(figures: Sequence[StepFigures], name: str) -> float:
    return float(sum(f.weight_fraction * getattr(f, name) for f in figures))


def _error(figures: Sequence[StepFigures]) -> float | None:
    return round(_total(figures, "measured_ms") / _total(figures, "predicted_ms") - 1.0, 4) if figures else None


def _off(one: NeighbourSlowdown) -> float:
    """How far off a predicted slow-down is; 0 where none was predicted."""
    return one.measured / one.predicted - 1.0 if one.predicted is not None else 0.0
