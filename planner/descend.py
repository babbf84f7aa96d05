"""Local descent on a plan that holds: give up a copy where simulation says that it is not needed (F5)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.mix_build import Market
from planner.progress import Progress
from planner.queues import CapacityServing
from planner.verify import Candidate
from solvers.mix_problem import MixSolution
from solvers.stop import Stop

NEAR_FRACTION = 0.002
"""A copy whose loss leaves the mean attainment this close below its target stays for the confidence alone."""

Change = Callable[[MixSolution, "np.ndarray[tuple[int], np.dtype[np.int64]]"], Candidate | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCopy:
    """A copy that stays although the figures alone do not demand it."""

    queue: int
    copies: int
    reason: str


def descend(
    market: Market, start: Candidate, change: Change, stop: Stop, progress: Progress
) -> tuple[Candidate, tuple[KeptCopy, ...]]:
    """The mix after dropping every copy whose loss still holds (dearest first), and the copies that nearly could go."""
    best = start
    settled: dict[int, int] = {}
    while not stop.cancelled():
        queue = next((q for q in _order(market, best) if settled.get(q) != int(best.solution.copies[q])), None)
        if queue is None:
            break
        fewer = best.solution.copies.copy()
        fewer[queue] -= 1
        tried = change(best.solution, fewer)
        if tried is not None and tried.holds:
            progress.say(f"descend: one copy less of {market.queues[queue].id}")
            best, settled = tried, {}
        else:
            settled[queue] = int(best.solution.copies[queue])
    return best, tuple(_kept(market, best, change))


def _order(market: Market, candidate: Candidate) -> list[int]:
    """Queues with copies, those with most GPUs a copy first; best-effort queues buy nothing and stay."""
    running = [q for q in market.queues if candidate.solution.copies[q.index] > 0 and not _best_effort(market, q.index)]
    dearest = sorted(running, key=lambda q: (-q.template.gpus * q.template.pool.price_in_objective, q.index))
    return [q.index for q in dearest]


def _best_effort(market: Market, queue: int) -> bool:
    return all(market.workloads[market.demands[d].workload].best_effort for d, _ in market.queues[queue].parts)


def _kept(market: Market, best: Candidate, change: Change) -> list[KeptCopy]:
    found = []
    for queue in _order(market, best):
        fewer = best.solution.copies.copy()
        fewer[queue] -= 1
        tried = change(best.solution, fewer)
        reason = _reason(market, queue, int(best.solution.copies[queue]), tried)
        if reason:
            found.append(KeptCopy(queue=queue, copies=int(best.solution.copies[queue]), reason=reason))
    return found


def _reason(market: Market, queue: int, copies: int, tried: Candidate | None) -> str:
    if isinstance(market.queues[queue].template.serving, CapacityServing):
        return ""
    if tried is None:
        # The last copy of a queue goes only if another queue can take its requests: then it is simply needed.
        return "a rule of the spec needs it" if copies > 1 else ""
    near = [a for a in tried.attainments if not a.holds]
    if all(a.mean >= a.target - NEAR_FRACTION for a in near):
        told = ", ".join(
            f"{market.workloads[a.workload].name} {a.mean:.4f} ± {a.standard_error:.4f} against {a.target:g}"
            for a in near
        )
        return f"without it the attainment is too close to tell at this number of draws: {told}"
    return ""
