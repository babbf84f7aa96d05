"""Which brackets and copies of a mix problem can matter: without this the MILP is several times larger and looser.

Nothing is dropped that could be part of every optimal mix. A queue whose copies only a decreasing rule names may lose
copies without breaking a row, so copies beyond the queue's whole demand are useless; a queue is dominated when
another one of the same pool and shares does everything it does with no more GPUs.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvers.mix_problem import Block, MixProblem, RuleRow

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Copies low..high of a queue, at a capacity per copy."""

    low: int
    high: int
    capacity_rps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """Per queue: the brackets that can matter, and the most that its demands let flow through it."""

    brackets: tuple[tuple[Bracket, ...], ...]  # [Q]
    max_flow_rps: FloatArray  # [Q]


def reduce(problem: MixProblem) -> Reduced:
    """The brackets that can matter, queue by queue."""
    flow = max_flow_rps(problem)
    given = _given_brackets(problem)
    free, halved = _free_queues(problem), _domain_queues(problem)
    kept = [
        _useful(given[q], float(flow[q]), q in halved) if free[q] else given[q] for q in range(len(problem.queue_pool))
    ]
    for q in _dominated(problem, kept, flow, free, halved):
        kept[q] = []
    return Reduced(brackets=tuple(tuple(b) for b in kept), max_flow_rps=flow)


def max_flow_rps(problem: MixProblem) -> FloatArray:
    """[Q] the flow at which the first of a queue's demands is fully served by it alone, requests/s."""
    limits = np.full(problem.share.shape, np.inf)
    np.divide(problem.demand_rate_rps[None, :], problem.share, out=limits, where=problem.share > 0)
    return np.asarray(limits.min(axis=1, initial=np.inf), dtype=np.float64)


def _given_brackets(problem: MixProblem) -> list[list[Bracket]]:
    found: list[list[Bracket]] = [[] for _ in problem.queue_pool]
    rows = zip(
        problem.bracket_queue.tolist(),
        problem.bracket_low.tolist(),
        problem.bracket_high.tolist(),
        problem.bracket_capacity_rps.tolist(),
        strict=True,
    )
    for queue, low, high, capacity in rows:
        most = min(high, int(problem.queue_max_copies[queue]))
        if low <= most:
            found[queue].append(Bracket(low=low, high=most, capacity_rps=capacity))
    return found


def eases(row: RuleRow) -> bool:
    """Whether a rule holds all the more with fewer copies."""
    sign = {"<=": 1.0, ">=": -1.0, "==": 0.0}[row.sense]
    copies = [coefficient for block, _, coefficient in row.terms if block == Block.COPIES]
    return all(sign * coefficient > 0 or coefficient == 0 for coefficient in copies)


def _free_queues(problem: MixProblem) -> NDArray[np.bool_]:
    """Queues that may lose a copy without breaking a rule row."""
    free = np.ones(len(problem.queue_pool), dtype=bool)
    for row in problem.rules:
        if not eases(row):
            free[[index for block, index, _ in row.terms if block == Block.COPIES]] = False
    return free


def _domain_queues(problem: MixProblem) -> set[int]:
    """Queues whose copies also stand in for lost ones: up to half of them may be lost at once."""
    workloads = {row.workload for row in problem.survive if row.kind == "domain"}
    demands = np.isin(problem.demand_workload, list(workloads))
    return set(np.flatnonzero((problem.share[:, demands] > 0).any(axis=1)).tolist())


def _useful(brackets: list[Bracket], flow_rps: float, halved: bool) -> list[Bracket]:
    """Brackets up to the copies that carry all of `flow_rps`; twice as many where half may be lost."""
    if flow_rps <= 0:
        return []
    if halved and not _regular(brackets):
        return brackets
    most = _copies_for(brackets, flow_rps) * (2 if halved else 1)
    kept = [b for b in brackets if b.low <= most and (b.capacity_rps > 0 or halved)]
    return [Bracket(low=b.low, high=min(b.high, most), capacity_rps=b.capacity_rps) for b in kept]


def _copies_for(brackets: list[Bracket], flow_rps: float) -> int:
    """The first number of copies whose capacity reaches the flow; the last number there is, if none does."""
    for bracket in brackets:
        if bracket.capacity_rps * bracket.high >= flow_rps * (1 - ROUNDING):
            need = int(np.ceil(flow_rps / bracket.capacity_rps * (1 - ROUNDING)))
            return max(bracket.low, need)
    return brackets[-1].high if brackets else 0


def _regular(brackets: list[Bracket]) -> bool:
    """Brackets start at one copy, leave no number out, and never lose capacity per copy with more of them."""
    if not brackets or brackets[0].low != 1:
        return False
    return all(a.high + 1 == b.low and a.capacity_rps <= b.capacity_rps for a, b in pairwise(brackets))


def _dominated(
    problem: MixProblem, brackets: list[list[Bracket]], flow: FloatArray, free: NDArray[np.bool_], halved: set[int]
) -> list[int]:
    named = {index for row in problem.rules for block, index, _ in row.terms if block in (Block.COPIES, Block.FLOW_RPS)}
    groups: dict[tuple[int, bytes], list[int]] = {}
    for q in range(len(brackets)):
        if brackets[q] and free[q] and q not in named and q not in halved:
            groups.setdefault((int(problem.queue_pool[q]), problem.share[q].tobytes()), []).append(q)
    return [q for group in groups.values() for q in _dominated_in(problem, group, brackets, flow)]


def _dominated_in(problem: MixProblem, group: list[int], brackets: list[list[Bracket]], flow: FloatArray) -> list[int]:
    """Of queues with one pool and one share row: those that one of the rest replaces, copy by copy.

    The other one must carry the whole flow at its most copies and gain (never lose) capacity per copy up to there:
    only then do the copies of both, put behind its router, serve what both did.
    """
    gpus = problem.queue_gpus_per_copy
    strong = [q for q in group if _regular(brackets[q]) and _covers(brackets[q], float(flow[q]))]
    dropped: set[int] = set()
    for q in group:
        for other in strong:
            if other == q or other in dropped or gpus[other] > gpus[q]:
                continue
            if all(_per_copy(brackets[other], b.low) >= b.capacity_rps for b in brackets[q]):
                dropped.add(q)
                break
    return sorted(dropped)


def _covers(brackets: list[Bracket], flow_rps: float) -> bool:
    return brackets[-1].capacity_rps * brackets[-1].high >= flow_rps * (1 - ROUNDING)


def _per_copy(brackets: list[Bracket], copies: int) -> float:
    """Capacity per copy at this number of copies; beyond the last bracket the whole demand is served anyway."""
    for bracket in brackets:
        if copies <= bracket.high:
            return bracket.capacity_rps
    return float("inf")
