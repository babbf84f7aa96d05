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
    kept = _given_brackets(problem)
    most = _most_copies(problem, kept, flow)
    kept = [_up_to(brackets, most[q]) for q, brackets in enumerate(kept)]
    for q in _dominated(problem, kept, most):
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


def _ruled_copies(problem: MixProblem) -> FloatArray:
    """[Q] copies with which a queue alone satisfies every rule that more copies help; inf where none surely does."""
    copies = np.zeros(len(problem.queue_pool))
    for row in problem.rules:
        named = [(i, coefficient) for block, i, coefficient in row.terms if block == Block.COPIES and coefficient != 0]
        if eases(row) or not named:
            continue
        sign = {">=": 1.0, "<=": -1.0, "==": 0.0}[row.sense]
        helps = sign != 0.0 and all(sign * coefficient >= 0 for _, _, coefficient in row.terms)
        for queue, coefficient in named:
            enough = np.ceil(row.bound / coefficient - ROUNDING) if helps else np.inf
            copies[queue] = max(copies[queue], enough)
    return copies


def _most_copies(problem: MixProblem, brackets: list[list[Bracket]], flow: FloatArray) -> FloatArray:
    """[Q] copies beyond which more of them change nothing; inf where that cannot be said.

    Enough for the whole flow and for the rules that ask for copies; twice as many where up to half may be lost.
    """
    ruled, halved = _ruled_copies(problem), _domain_queues(problem)
    most = np.full(len(brackets), np.inf)
    for q, own in enumerate(brackets):
        plain = q not in halved and ruled[q] <= 0
        if plain or _regular(own):
            need = _copies_for(own, float(flow[q])) * (2 if q in halved else 1)
            most[q] = max(need, float(ruled[q]))
    return most


def _domain_queues(problem: MixProblem) -> set[int]:
    """Queues whose copies also stand in for lost ones: up to half of them may be lost at once."""
    workloads = {row.workload for row in problem.survive if row.kind == "domain"}
    demands = np.isin(problem.demand_workload, list(workloads))
    return set(np.flatnonzero((problem.share[:, demands] > 0).any(axis=1)).tolist())


def _up_to(brackets: list[Bracket], most: float) -> list[Bracket]:
    return [
        Bracket(low=b.low, high=int(min(b.high, most)), capacity_rps=b.capacity_rps) for b in brackets if b.low <= most
    ]


def _copies_for(brackets: list[Bracket], flow_rps: float) -> float:
    """The first number of copies whose capacity reaches the flow; inf if none does."""
    if flow_rps <= 0:
        return 0.0
    for bracket in brackets:
        if bracket.capacity_rps * bracket.high >= flow_rps * (1 - ROUNDING):
            need = int(np.ceil(flow_rps / bracket.capacity_rps * (1 - ROUNDING)))
            return float(max(bracket.low, need))
    return float("inf")


def _regular(brackets: list[Bracket]) -> bool:
    """Brackets start at one copy, leave no number out, and never lose capacity per copy with more of them."""
    if not brackets or brackets[0].low != 1:
        return False
    return all(a.high + 1 == b.low and a.capacity_rps <= b.capacity_rps for a, b in pairwise(brackets))


def _dominated(problem: MixProblem, brackets: list[list[Bracket]], most: FloatArray) -> list[int]:
    ruled = _ruled_copies(problem)
    named: list[list[tuple[int, Block, float]]] = [[] for _ in brackets]
    for number, row in enumerate(problem.rules):
        for block, index, coefficient in row.terms:
            if block in (Block.COPIES, Block.FLOW_RPS):
                named[index].append((number, block, coefficient))
    groups: dict[tuple[object, ...], list[int]] = {}
    for q in range(len(brackets)):
        if brackets[q] and np.isfinite(ruled[q]):
            key = (int(problem.queue_pool[q]), problem.share[q].tobytes(), tuple(sorted(named[q])))
            groups.setdefault(key, []).append(q)
    return [q for group in groups.values() for q in _dominated_in(problem, group, brackets, most)]


def _dominated_in(problem: MixProblem, group: list[int], brackets: list[list[Bracket]], most: FloatArray) -> list[int]:
    """Of queues with one pool, one share row and the same rules: those that one of the rest replaces, copy by copy.

    The other one must reach the copies beyond which more change nothing, and never lose capacity per copy up to
    there: only then do the copies of both, put behind its router, serve what both did.
    """
    gpus = problem.queue_gpus_per_copy
    strong = [q for q in group if _regular(brackets[q]) and brackets[q][-1].high >= most[q]]
    dropped: set[int] = set()
    for q in group:
        for other in strong:
            if other == q or other in dropped or gpus[other] > gpus[q]:
                continue
            if all(_per_copy(brackets[other], b.low) >= b.capacity_rps for b in brackets[q]):
                dropped.add(q)
                break
    return sorted(dropped)


def _per_copy(brackets: list[Bracket], copies: int) -> float:
    """Capacity per copy at this number of copies; beyond the last bracket the whole demand is served anyway."""
    for bracket in brackets:
        if copies <= bracket.high:
            return bracket.capacity_rps
    return float("inf")
