"""The steps that the simulator predicts for a replica: how many decodes and which prompt chunks each of them holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.simulate_reference import Replica, Simulation
from planner.simulate_types import ClosedLoop, LlmCell, Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class MixStep:
    """One step: sequences that decode and the KV tokens under them, prompt chunks as (done, tokens), who samples.

    `weight_fraction`: the share of all steps that it stands for.
    """

    decodes: int
    kv_tokens: int
    chunks: tuple[tuple[int, int], ...]
    samples: int
    predicted_s: float
    weight_fraction: float = 1.0

    @property
    def tokens(self) -> int:
        """Tokens in the step."""
        return self.decodes + sum(tokens for _, tokens in self.chunks)


class _Recorded(Simulation):
    """A simulation that keeps every step it starts."""

    def __init__(self, cell: LlmCell, work: Requests | ClosedLoop) -> None:
        super().__init__(cell, work)
        self.mix: list[MixStep] = []

    def start_step(self, replica: Replica, now: float) -> None:
        """Schedule a step, and keep it if there was one."""
        before, busy_s = self.steps, sum(self.component_s.values())
        super().start_step(replica, now)
        if self.steps == before:
            return
        step = replica.in_flight[-1]
        self.mix.append(
            MixStep(
                decodes=len(step.decodes),
                kv_tokens=sum(step.decodes),
                chunks=tuple(step.chunks),
                samples=len(step.samplers),
                predicted_s=sum(self.component_s.values()) - busy_s,
            )
        )


def step_mix(cell: LlmCell, requests: Requests) -> list[MixStep]:
    """Every step of the requests on the cell, in order."""
    recorded = _Recorded(cell, requests)
    recorded.run()
    return recorded.mix


def sampled(steps: Sequence[MixStep], count: int) -> list[MixStep]:
    """So many steps that stand for all: every n-th by time, apart for steps with prompts and for those without.

    Each kind gets steps by its share, at least one where it has any; the weights sum to 1.
    """
    found: list[MixStep] = []
    for kind in ([s for s in steps if s.chunks], [s for s in steps if not s.chunks]):
        if not kind:
            continue
        wanted = min(max(round(count * len(kind) / len(steps)), 1), len(kind))
        ordered = sorted(kind, key=lambda s: s.predicted_s)
        places = ((np.arange(wanted) + 0.5) * len(kind) / wanted).astype(int).tolist()
        share = len(kind) / len(steps) / wanted
        found += [replace(ordered[place], weight_fraction=share) for place in places]
    return found
