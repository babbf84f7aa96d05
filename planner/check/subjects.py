"""The groups of a plan that are checked by their kernels: their steps in the simulator, and their shape on a device."""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.check.compare import llm_cell
from planner.check.load import plan_load
from planner.check.step_mix import MixStep, step_mix
from planner.mix_build import Market
from planner.plan_file import Group, Plan
from planner.queues import LlmServing, Queue
from planner.runtime.errors import EngineError
from profiles.engines import Engine
from profiles.gpus import Gpu
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A group with the queue that its replica runs."""

    group: Group
    queue: Queue

    def deployment(self, gpu: Gpu, quantization: Quantization, engine: Engine) -> Deployment:
        """Its replica on that GPU, with a KV cache in the GPU's half precision."""
        serving, template = self.queue.template.serving, self.queue.template
        assert isinstance(serving, LlmServing)
        return Deployment(
            model=serving.architecture,
            gpu=gpu,
            engine=engine,
            quantization=quantization,
            kv_dtype=KvDtype(gpu.half_precision),
            tp=template.tp,
            pp=template.pp,
            ep=template.ep,
        )


def subjects_of(plan: Plan, market: Market, wanted: Sequence[str]) -> list[Subject]:
    """The groups asked for, or the first of every template; EngineError when one has no engine or is not there."""
    runs = _with_engines(plan, market)
    known = [one.group.id for one in runs]
    for name in wanted:
        if name not in known:
            raise EngineError(f"the plan has no group '{name[:60]}' with an engine: {', '.join(known[:8])} …")
    if wanted:
        return [one for one in runs if one.group.id in wanted]
    if not runs:
        raise EngineError("no group of the plan has an engine: there are no steps to run.")
    return list({one.group.template: one for one in reversed(runs)}.values())[::-1]


def neighbours_of(subject: Subject, plan: Plan, market: Market) -> list[Subject]:
    """The groups with an engine that share a GPU with a group."""
    mine = {(gpu.node, gpu.index) for gpu in subject.group.gpu_ids}
    return [
        one
        for one in _with_engines(plan, market)
        if one.group.id != subject.group.id and mine & {(gpu.node, gpu.index) for gpu in one.group.gpu_ids}
    ]


def steps_of(subject: Subject, plan: Plan, market: Market, duration_s: float, seed: int) -> list[MixStep]:
    """Every step of the group's share of the plan's traffic, by the simulator; EngineError when it gets no request."""
    load = plan_load(plan, market, [subject.group.id], duration_s, seed)
    if not load.due_s.size:
        raise EngineError(f"{subject.group.id} gets no request in {duration_s:g} s of traffic: see --duration.")
    return step_mix(llm_cell(subject.queue), load.simulated())


def _with_engines(plan: Plan, market: Market) -> list[Subject]:
    queues = {queue.id: queue for queue in market.queues}
    found = [Subject(group=group, queue=queues[group.queue]) for group in plan.groups]
    return [one for one in found if isinstance(one.queue.template.serving, LlmServing)]
