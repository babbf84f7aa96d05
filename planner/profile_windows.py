"""The windows of an engine profile: bursts that decode together, and prompts that come one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.load.client import closed_loop, open_loop
from planner.load.metrics import STEPS, scrape
from planner.load.requests import Answers, IntArray, Sending, Target
from planner.runtime.engine_process import EngineProcess
from planner.runtime.errors import EngineError
from profiles.measured_steps import MeasuredSteps
from profiles.models import ModelArchitecture
from profiles.precision import KvDtype, Quantization, native_kv_dtype
from profiles.step_fit import Decoding, Prefilling, WorkerTime, fit_steps, fit_worker_time

SHORT_PROMPT = 16
DECODED = 33
"""Tokens of a burst's answer: the first comes from the prompt, 32 steps of pure decode follow."""
LONG_BATCH = 4
PROMPTS_A_WINDOW = 3
PROMPT_GAP_S = 0.4
"""Prompts come to an engine that has come to rest, as they do under light load: it has to wake up first."""
MOST_SEQUENCES = 1 << 20
PREFILL_SUM, PREFILL_COUNT = "vllm:request_prefill_time_seconds_sum", "vllm:request_prefill_time_seconds_count"

Cancelled = Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Bench:
    """An engine under measurement on `devices`, the points to measure, and what the passes gave so far. `batches`:
    sequences that decode together, `prompts`: lengths, each a step. `decoding`: (batch, prompt) → seconds a step;
    `prefilling`: prompt → (seconds in the engine, TTFT).
    """

    engine: EngineProcess
    target: Target
    devices: tuple[int, ...]
    batches: tuple[int, ...]
    prompts: tuple[int, ...]
    decoding: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    prefilling: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    worker: list[WorkerTime] = field(default_factory=list)


def measure_pass(benches: Sequence[Bench], number: int, cancelled: Cancelled) -> None:
    """One pass over all windows, its prompts drawn by its `number` (a prompt that came before may be cached).

    All benches have as many prompts. EngineError when an engine fails or the pass is cancelled.
    """
    for bench in benches:
        others = [other.target for other in benches if not set(other.devices) & set(bench.devices)]
        for batch in bench.batches:
            wake(others, number)
            _decode(bench, (batch, SHORT_PROMPT), number, cancelled)
        wake(others, number)
        _decode(bench, (min(LONG_BATCH, max(bench.batches)), max(bench.prompts)), number, cancelled)
    for position in range(len(benches[0].prompts)):
        _prefill(benches, position, number, cancelled)


def wake(targets: Sequence[Target], seed: int) -> None:
    """A token to each: a processor engine then spins for a second, as it does all the time under a plan's traffic, and
    takes from its neighbours' cores what these share with its own.
    """
    if targets:
        sending = _sending(np.full(len(targets), SHORT_PROMPT), 1, target=np.arange(len(targets), dtype=np.int64))
        open_loop(targets, sending, seed=seed)


def _decode(bench: Bench, burst: tuple[int, int], number: int, cancelled: Cancelled) -> None:
    # No two windows draw the same prompts: the seed is of the pass, the batch and the length.
    seed = (number * MOST_SEQUENCES + burst[0]) * MOST_SEQUENCES + burst[1]
    answers, worker = decode_burst(bench.engine, bench.target, burst, seed, cancelled)
    _check([bench], answers, cancelled)
    bench.worker += worker
    # The quickest gaps are those of a burst that decoded all together, with no prompt among its steps.
    bench.decoding.setdefault(burst, []).append(float(np.min(answers.tpot_s)))


def decode_burst(
    engine: EngineProcess, target: Target, burst: tuple[int, int], seed: int, cancelled: Cancelled
) -> tuple[Answers, list[WorkerTime]]:
    """So many sequences with prompts of so many tokens, decoded together: (answers, the worker's time over them).

    A worker that waits spins: its processor time means something only where it never waits, as here. It is left out
    when not all were served.
    """
    batch, prompt = burst
    sending = _sending(np.full(batch, prompt), DECODED)
    steps, cpu_s = scrape(target.url).get(STEPS), engine.cpu_s()
    answers = closed_loop([target], sending, batch, seed=seed, cancelled=cancelled)
    cpu_s = engine.cpu_s() - cpu_s
    if not answers.served.all():
        return answers, []
    return answers, [_worker_time(sending, scrape(target.url).get(STEPS) - steps, cpu_s)]


def _prefill(benches: Sequence[Bench], position: int, number: int, cancelled: Cancelled) -> None:
    """Prompts to all engines in turn: neighbours on other devices are awake, as they are when a plan runs."""
    target = np.arange(PROMPTS_A_WINDOW * len(benches), dtype=np.int64) % len(benches)
    prompts = np.array([bench.prompts[position] for bench in benches])
    sending = _sending(prompts[target], 1, gap_s=PROMPT_GAP_S / len(benches), target=target)
    before = [scrape(bench.target.url) for bench in benches]
    seed = (number + 1) * MOST_SEQUENCES**2 + position
    answers = open_loop([bench.target for bench in benches], sending, seed=seed, cancelled=cancelled)
    _check(benches, answers, cancelled)
    for one, bench in enumerate(benches):
        after = scrape(bench.target.url)
        done = after.get(PREFILL_COUNT) - before[one].get(PREFILL_COUNT)
        if done <= 0:
            raise EngineError(f"{bench.engine.label} tells no prefill times at /metrics: it cannot be measured.")
        inside_s = (after.get(PREFILL_SUM) - before[one].get(PREFILL_SUM)) / done
        found = bench.prefilling.setdefault(bench.prompts[position], [])
        found.append((inside_s, float(np.mean(answers.ttft_s[target == one]))))


def _sending(prompts: IntArray, tokens: int, *, gap_s: float = 0.0, target: IntArray | None = None) -> Sending:
    return Sending(
        due_s=gap_s * np.arange(prompts.size, dtype=np.float64),
        input_tokens=prompts,
        output_tokens=np.full(prompts.size, tokens),
        target=np.zeros(prompts.size, dtype=np.int64) if target is None else target,
    )


def fitted_steps(bench: Bench, name: str, architecture: ModelArchitecture, *, on_cpu: bool) -> MeasuredSteps:
    """The steps of a model by the medians of a bench's passes; ProfileError when there are too few points."""
    decoding = [
        Decoding(batch=b, kv_tokens=b * (prompt + 0.5 * DECODED), step_s=float(np.median(seconds)))
        for (b, prompt), seconds in bench.decoding.items()
    ]
    prefilling = [
        Prefilling(
            tokens=prompt,
            step_s=float(np.median([inside for inside, _ in pairs])),
            ttft_s=float(np.median([ttft for _, ttft in pairs])),
        )
        for prompt, pairs in bench.prefilling.items()
    ]
    fitted = fit_steps(decoding, prefilling)
    return MeasuredSteps(
        model=name,
        model_digest=architecture.digest,
        quantization=Quantization(architecture.dtype),
        kv_dtype=KvDtype(native_kv_dtype(architecture.dtype)),
        step=fitted.step,
        worker_cpu=fit_worker_time(bench.worker) if on_cpu else None,
        request_s=fitted.request_s,
        input_token_s=fitted.input_token_s,
        error_fraction=round(fitted.error_fraction, 4),
        repeats=min(len(pairs) for pairs in bench.prefilling.values()),
    )


def _check(benches: Sequence[Bench], answers: Answers, cancelled: Cancelled) -> None:
    if cancelled():
        raise EngineError("the measuring was cancelled: no profile was made.")
    if not answers.served.all():
        told = ", ".join(f"{count} × {what}" for what, count in answers.errors.items())
        why = next((b.engine.why() for b in benches if not b.engine.alive()), benches[0].engine.why())
        raise EngineError(f"requests failed while measuring: {told}; {why}")


def _worker_time(sending: Sending, steps: float, cpu_s: float) -> WorkerTime:
    """What a worker computed for requests that were all served, in so many steps and processor seconds."""
    inputs, outputs = sending.input_tokens.astype(float), sending.output_tokens.astype(float)
    decoded = outputs - 1
    return WorkerTime(
        cpu_s=cpu_s,
        steps=steps,
        tokens=float((inputs + decoded).sum()),
        kv_tokens=float((decoded * (inputs + 0.5 * outputs)).sum()),
    )
