"""Windows of traffic: what was sent, what became of it, and how much of it counts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.check.compare import Latencies
from planner.check.load import CheckLoad, FloatArray
from planner.load.requests import Answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Requests and what became of them, shape (requests,). `counts`: those that had ended; the others of a window that
    was cut short only load the replicas in the simulator. `span_s`: seconds of traffic that count.
    """

    load: CheckLoad
    latencies: Latencies
    counts: NDArray[np.bool_]
    span_s: float
    lag_s: FloatArray
    errors: dict[str, int]


def window_of(load: CheckLoad, answers: Answers, duration_s: float, *, cut: bool) -> Window:
    """A window of so many seconds with its answers; `cut`: it was ended before its time."""
    counts = answers.done if cut else np.ones_like(answers.done)
    span_s = duration_s
    if not counts.all():
        span_s = float(load.due_s[counts].max()) if counts.any() else 0.0
    return Window(
        load=load,
        latencies=Latencies(ttft_s=answers.ttft_s, tpot_s=answers.tpot_s, e2e_s=answers.e2e_s),
        counts=counts,
        span_s=span_s,
        lag_s=answers.lag_s,
        errors=answers.errors,
    )


def joined(windows: Sequence[Window], length_s: float) -> Window:
    """Windows one after the other as one, each shifted by whole lengths (they do not touch in the simulator)."""
    loads = [replace(one.load, due_s=one.load.due_s + number * length_s) for number, one in enumerate(windows)]
    return Window(
        load=CheckLoad(
            due_s=np.concatenate([one.due_s for one in loads]),
            input_tokens=np.concatenate([one.input_tokens for one in loads]),
            output_tokens=np.concatenate([one.output_tokens for one in loads]),
            group=np.concatenate([one.group for one in loads]),
            workload=np.concatenate([one.workload for one in loads]),
        ),
        latencies=Latencies(
            ttft_s=np.concatenate([one.latencies.ttft_s for one in windows]),
            tpot_s=np.concatenate([one.latencies.tpot_s for one in windows]),
            e2e_s=np.concatenate([one.latencies.e2e_s for one in windows]),
        ),
        counts=np.concatenate([one.counts for one in windows]),
        span_s=sum(one.span_s for one in windows),
        lag_s=np.concatenate([one.lag_s for one in windows]),
        errors=dict(sum((Counter(one.errors) for one in windows), Counter())),
    )
