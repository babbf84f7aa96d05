"""The windows of an engine profile: bursts that decode together, and prompts that come one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.load.client import closed_loop, open_loop
from planner.load.metrics import STEPS, scrape
from planner.load.requests import Answers, IntArray, Sending, Target
from planner.runtime.engine_process import EngineProcess
from planner.runtime.errors import EngineError
from profiles.step_fit import WorkerTime

SHORT_PROMPT = 16
DECODED = 33
"""Tokens of a burst's answer: the first comes from the prompt, 32 steps of pure decode follow."""
LONG_BATCH = 4
PROMPTS_A_WINDOW = 3
PROMPT_GAP_S = 0.4
"""Prompts come to an engine that has come to rest, as they do under light load: it has to wake up first."""
PREFILL_SUM, PREFILL_COUNT = "vllm:request_prefill_time_seconds_sum", "vllm:request_prefill_time_seconds_count"

Cancelled = Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class Bench:
    """An engine under measurement and what the passes gave so far. `decoding`: (batch, prompt) → seconds a step;
    `prefilling`: prompt → (seconds in the engine, TTFT).
    """

    engine: EngineProcess
    target: Target
    decoding: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    prefilling: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    worker: list[WorkerTime] = field(default_factory=list)


def measure_pass(
    benches: Sequence[Bench], batches: Sequence[int], prompts: Sequence[int], cancelled: Cancelled
) -> None:
    """One pass over all windows. EngineError when an engine fails or the pass is cancelled."""
    for bench in benches:
        for batch in batches:
            _decode(bench, (batch, SHORT_PROMPT), cancelled)
        _decode(bench, (LONG_BATCH, max(prompts)), cancelled)
    for prompt in prompts:
        _prefill(benches, prompt, cancelled)


def _decode(bench: Bench, burst: tuple[int, int], cancelled: Cancelled) -> None:
    batch, prompt = burst
    sending = _sending(batch, prompt, DECODED)
    steps, cpu_s = scrape(bench.target.url).get(STEPS), bench.engine.cpu_s()
    answers = closed_loop([bench.target], sending, batch, cancelled=cancelled)
    cpu_s = bench.engine.cpu_s() - cpu_s
    _check([bench], answers, cancelled)
    # A worker that waits spins, so that its processor time means something only where it never waits: here.
    bench.worker.append(worker_time(sending, scrape(bench.target.url).get(STEPS) - steps, cpu_s))
    # The quickest gaps are those of a burst that decoded all together, with no prompt among its steps.
    bench.decoding.setdefault(burst, []).append(float(np.min(answers.tpot_s)))


def _prefill(benches: Sequence[Bench], prompt: int, cancelled: Cancelled) -> None:
    """Prompts to all engines in turn: neighbours on other devices are awake, as they are when a plan runs."""
    count = PROMPTS_A_WINDOW * len(benches)
    target = np.arange(count, dtype=np.int64) % len(benches)
    sending = _sending(count, prompt, 1, gap_s=PROMPT_GAP_S / len(benches), target=target)
    before = [scrape(bench.target.url) for bench in benches]
    answers = open_loop([bench.target for bench in benches], sending, cancelled=cancelled)
    _check(benches, answers, cancelled)
    for number, bench in enumerate(benches):
        after = scrape(bench.target.url)
        done = after.get(PREFILL_COUNT) - before[number].get(PREFILL_COUNT)
        if done <= 0:
            raise EngineError(f"{bench.engine.label} tells no prefill times at /metrics: it cannot be measured.")
        inside_s = (after.get(PREFILL_SUM) - before[number].get(PREFILL_SUM)) / done
        bench.prefilling.setdefault(prompt, []).append((inside_s, float(np.mean(answers.ttft_s[target == number]))))


def _sending(count: int, prompt: int, tokens: int, *, gap_s: float = 0.0, target: IntArray | None = None) -> Sending:
    return Sending(
        due_s=gap_s * np.arange(count, dtype=np.float64),
        input_tokens=np.full(count, prompt),
        output_tokens=np.full(count, tokens),
        target=np.zeros(count, dtype=np.int64) if target is None else target,
    )


def _check(benches: Sequence[Bench], answers: Answers, cancelled: Cancelled) -> None:
    if cancelled():
        raise EngineError("the measuring was cancelled: no profile was made.")
    if not answers.served.all():
        told = ", ".join(f"{count} × {what}" for what, count in answers.errors.items())
        why = next((b.engine.why() for b in benches if not b.engine.alive()), benches[0].engine.why())
        raise EngineError(f"requests failed while measuring: {told}; {why}")


def worker_time(sending: Sending, steps: float, cpu_s: float) -> WorkerTime:
    """What a worker computed for requests that were all served, in so many steps and processor seconds."""
    inputs, outputs = sending.input_tokens.astype(float), sending.output_tokens.astype(float)
    decoded = outputs - 1
    return WorkerTime(
        cpu_s=cpu_s,
        steps=steps,
        tokens=float((inputs + decoded).sum()),
        kv_tokens=float((decoded * (inputs + 0.5 * outputs)).sum()),
    )
