"""Steps measured again between the windows of a check: a plan that is wrong is told from a machine that has changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner.capacity import PackedTable
from planner.check.on_engine import Running
from planner.profile_windows import DECODED, SHORT_PROMPT, Bench, fitted_steps, measure_pass
from planner.queues import LlmServing, Queue
from planner.runtime.errors import EngineError
from profiles.calibration import corrected
from profiles.measured_steps import MeasuredSteps, tabulate_measured
from profiles.precision import Quantization

MOST_BATCH = 16
PROMPT_PARTS = (16, 4, 1)
"""The longest prompt that is one step, and these parts of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remeasuring:
    """The benches of a check's engines, one for each."""

    benches: tuple[Bench, ...]

    def measure(self, number: int, cancelled: Callable[[], bool]) -> None:
        """One pass over all engines. EngineError when one fails or the check is cancelled."""
        measure_pass(self.benches, number, cancelled)

    def steps(self, queues: Sequence[Queue], *, on_cpu: bool) -> list[MeasuredSteps]:
        """The steps of each engine by the medians of its passes; `queues[n]` is what engine n runs."""
        return [_steps(b, q, on_cpu=on_cpu) for b, q in zip(self.benches, queues, strict=True)]


def remeasuring(running: Sequence[Running]) -> Remeasuring:
    """Benches at the engines' own settings. EngineError for pipelines, too short prompts or too few sequences."""
    return Remeasuring(benches=tuple(_bench(one) for one in running))


def _bench(running: Running) -> Bench:
    arguments = running.bound.launch.arguments
    if int(arguments.get("pipeline-parallel-size", 1)) > 1:
        raise EngineError(f"{running.engine.label} is a pipeline, whose steps cannot be measured again (--remeasure).")
    sequences = int(arguments["max-num-seqs"])
    longest = min(int(arguments["max-num-batched-tokens"]), int(arguments["max-model-len"]) - DECODED)
    prompts = tuple(max(SHORT_PROMPT, longest // part) for part in PROMPT_PARTS)
    if sequences < 2 or len(set(prompts)) < len(prompts):
        raise EngineError(
            f"{running.engine.label} takes {sequences} sequences and steps of {longest} tokens: too few to measure it"
            " again (--remeasure)."
        )
    batches = tuple(2**n for n in range(min(sequences, MOST_BATCH).bit_length()))
    devices = running.bound.launch.gpu_indices
    return Bench(engine=running.engine, target=running.target, devices=devices, batches=batches, prompts=prompts)


def _steps(bench: Bench, queue: Queue, *, on_cpu: bool) -> MeasuredSteps:
    serving, template = queue.template.serving, queue.template
    assert isinstance(serving, LlmServing)
    found = fitted_steps(bench, template.model, serving.architecture, on_cpu=on_cpu)
    layout = {"quantization": Quantization(template.quantization), "tp": template.tp, "ep": template.ep}
    return found.model_copy(update=layout)


def with_steps(queue: Queue, steps: MeasuredSteps) -> Queue:
    """The queue with a table of these steps, and the correction that was in force when it was planned."""
    template = queue.template
    serving = template.serving
    assert isinstance(serving, LlmServing)
    table = tabulate_measured(steps, serving.table.linear_s.size - 1)
    known = template.correction
    if known is not None:
        table = corrected(table, known.step_factor, known.request_s)
    serving = replace(serving, table=table, packed=PackedTable(table))
    return replace(queue, template=replace(template, serving=serving))
