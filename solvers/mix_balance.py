"""Flows of a mix whose copies are fixed: load follows capacity as far as shares and rules let it.

Lexicographic: the largest utilisation (flow ÷ capacity) of queues that can relieve each other is made as small as
possible, then the next, and so on, by linear programs whose duals name the queues that can go no lower.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.linear_model import LinearModel
from solvers.mix_problem import Block, MixProblem
from solvers.pulp_backend import Limits, Outcome, PulpProgram
from solvers.result import Termination

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
DUAL_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What the balance may not change: `capacity_rps` is that of all copies of a queue together."""

    problem: MixProblem
    copies: IntArray  # [Q]
    nodes: IntArray  # [P]
    paid: IntArray  # [P]
    unmet_rps: FloatArray  # [D]
    capacity_rps: FloatArray  # [Q]


def balance(
    problem: MixProblem, copies: IntArray, nodes: IntArray, paid: IntArray, unmet_rps: FloatArray
) -> tuple[FloatArray, str]:
    """[Q] balanced flows in requests/s and "", or zeros and why there are none: the rules leave no exact flow."""
    fixed = Fixed(
        problem=problem,
        copies=copies,
        nodes=nodes,
        paid=paid,
        unmet_rps=unmet_rps,
        capacity_rps=capacity_rps(problem, copies),
    )
    flow = np.zeros(len(copies))
    open_queues = np.flatnonzero(fixed.capacity_rps > 0).tolist()
    parts = _parts(problem, open_queues)
    level: dict[int, float] = {}
    while len(level) < len(open_queues):
        round_model = _Round(fixed, open_queues, parts, level)
        outcome = round_model.solve()
        if outcome.termination != Termination.OPTIMAL or outcome.values is None:
            return np.zeros(len(copies)), "flows are feasible but not balanced: no exact flow at the fixed copies"
        for queue in open_queues:
            flow[queue] = outcome.values[round_model.flow[queue]] * fixed.capacity_rps[queue]
        level.update(round_model.settled(outcome))
    return flow, ""


def capacity_rps(problem: MixProblem, copies: IntArray) -> FloatArray:
    """[Q] requests/s of all copies of a queue together, at the bracket that holds their number."""
    own = copies[problem.bracket_queue]
    inside = (problem.bracket_low <= own) & (own <= problem.bracket_high)
    capacity = np.zeros(len(copies))
    np.add.at(capacity, problem.bracket_queue[inside], (problem.bracket_capacity_rps * own)[inside])
    return capacity


def _parts(problem: MixProblem, queues: list[int]) -> dict[int, int]:
    """Queue → the smallest queue of its part: queues that share a demand or a rule on flows, or through others.

    Parts have no row in common, so that the peak of each is as low as it can be when their sum is.
    """
    groups = [np.flatnonzero(problem.share[:, demand] > 0).tolist() for demand in range(problem.share.shape[1])]
    groups += [[i for block, i, _ in row.terms if block == Block.FLOW_RPS] for row in problem.rules]
    part = {queue: queue for queue in queues}
    changed = True
    while changed:
        changed = False
        for group in groups:
            members = [queue for queue in group if queue in part]
            least = min((part[queue] for queue in members), default=0)
            for queue in members:
                changed |= part[queue] != least
                part[queue] = least
    return part


class _Round:
    """One linear program: the largest utilisation of every part, over queues that are not settled."""

    def __init__(self, fixed: Fixed, queues: list[int], parts: dict[int, int], level: dict[int, float]) -> None:
        self._fixed, self._queues, self._parts, self._level = fixed, queues, parts, level
        self._linear = LinearModel()
        self.flow = {queue: self._linear.continuous(np.inf) for queue in queues}  # utilisation of the queue
        self._peak = {part: self._linear.continuous(np.inf) for part in sorted(set(parts.values()))}
        self._row = {queue: self._peak_row(queue) for queue in queues}
        self._demand_rows()
        self._rule_rows()

    def _peak_row(self, queue: int) -> int:
        if queue in self._level:
            return self._linear.row({self.flow[queue]: 1.0}, "<=", self._level[queue])
        return self._linear.row({self.flow[queue]: 1.0, self._peak[self._parts[queue]]: -1.0}, "<=", 0.0)

    def _demand_rows(self) -> None:
        problem, capacity = self._fixed.problem, self._fixed.capacity_rps
        for demand in np.flatnonzero(problem.demand_rate_rps > 0).tolist():
            rate = problem.demand_rate_rps[demand]
            terms = {self.flow[q]: float(problem.share[q, demand] * capacity[q] / rate) for q in self._queues}
            terms = {column: value for column, value in terms.items() if value > 0}
            if terms:
                self._linear.row(terms, "==", float((rate - self._fixed.unmet_rps[demand]) / rate))
        for demand in np.flatnonzero(problem.demand_rate_rps <= 0).tolist():
            for queue in self._queues:
                if problem.share[queue, demand] > 0:
                    self._linear.upper[self.flow[queue]] = 0.0

    def _rule_rows(self) -> None:
        fixed = self._fixed
        amounts = {Block.COPIES: fixed.copies, Block.NODES: fixed.nodes, Block.PAID_GPUS: fixed.paid}
        for row in fixed.problem.rules:
            terms: dict[int, float] = {}
            bound = row.bound
            for block, index, coefficient in row.terms:
                if block != Block.FLOW_RPS:
                    bound -= coefficient * float(amounts[block][index])
                elif index in self.flow:
                    column = self.flow[index]
                    terms[column] = terms.get(column, 0.0) + coefficient * float(fixed.capacity_rps[index])
            scale = max((abs(value) for value in terms.values()), default=0.0)
            if scale > 0:
                self._linear.row({c: v / scale for c, v in terms.items()}, row.sense, bound / scale)

    def solve(self) -> Outcome:
        """Minimise the sum of the parts' largest utilisations."""
        open_parts = {self._parts[queue] for queue in self._queues if queue not in self._level}
        terms = {self._peak[part]: 1.0 for part in sorted(open_parts)}
        return PulpProgram(self._linear, "highs").minimise_relaxed(terms, Limits())

    def settled(self, outcome: Outcome) -> dict[int, float]:
        """Queues whose utilisation can go no lower in any optimal flow, with that utilisation; never empty."""
        if outcome.values is None or outcome.duals is None:
            raise RuntimeError("the linear program of the balance has no duals")
        open_queues = [queue for queue in self._queues if queue not in self._level]
        peaks = {queue: float(outcome.values[self._peak[self._parts[queue]]]) for queue in open_queues}
        found = {q: peaks[q] for q in open_queues if abs(outcome.duals[self._row[q]]) > DUAL_TOLERANCE}
        # A part whose peak is 0 carries nothing: its rows may have no dual.
        found.update({q: 0.0 for q in open_queues if peaks[q] <= 0.0})
        if not found:
            raise RuntimeError("the linear program of the balance names no queue that holds its peak up")
        return found
