"""Staffings of a demand: numbers of copies, by pool and size, that serve all of it.

A demand whose queues serve nothing else, are named only by rules that fewer copies ease and need no spare for a loss
meets the rest of the problem only in the hardware that its copies take and in those rules. Its staffings of least
cost at given prices per copy are found by a cover dynamic programme, and all staffings within a margin of that cost
by enumeration: with them in place of brackets and flows the MILP is small and tight (F2).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.mix_model import MixModel
from solvers.mix_presolve import Bracket, eases
from solvers.mix_problem import Block, MixProblem
from solvers.staffing_kernel import cover_costs

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
UNITS = 2000
ROUNDING = 1e-6  # of a unit
FULL = 1.0 - 1e-9
LARGEST_TABLE = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyClass:
    """Copies that take the same of every hardware and rule row (`taken`), whichever of its queues they belong to.

    `copies[i]` of them, divided among the queues as `split[i]` (per queue), serve the fraction `covered[i]` of the
    demand; more copies always cover more. The first entry is no copy.
    """

    queues: tuple[int, ...]
    taken: tuple[float, ...]
    copies: IntArray
    covered: FloatArray
    split: IntArray  # [numbers, queues]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheap:
    """Staffings by rising cost. `counts` are copies per class; no other staffing costs less than `least + margin`."""

    least: float
    margin: float
    counts: IntArray  # [staffings, classes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staffer:
    """The classes of one demand."""

    demand: int
    classes: tuple[CopyClass, ...]

    @property
    def taken(self) -> FloatArray:
        """[classes, copy rows of the model] what one copy takes."""
        return np.array([own.taken for own in self.classes], dtype=np.float64)

    def least_cost(self, weights: FloatArray) -> float:
        """A lower bound on Σ weight · copies over all staffings (`weights` per class); inf if there is none."""
        return float(self._costs(weights)[0, UNITS])

    def cover_cut(self, weights: FloatArray) -> tuple[float, float]:
        """(least, slope): a staffing that leaves the fraction v unmet costs at least `least − slope · v`."""
        costs = self._costs(weights)[0]
        least = float(costs[UNITS])
        if not np.isfinite(least):
            return least, 0.0
        unmet = 1.0 - np.arange(UNITS) / UNITS
        return least, float(np.max((least - costs[:UNITS]) / unmet))

    def _costs(self, weights: FloatArray) -> FloatArray:
        # Rounded up, so that no staffing is overlooked: the costs are a lower bound.
        units = [np.minimum(UNITS, np.ceil(c.covered[1:] * UNITS - ROUNDING).astype(np.int64)) for c in self.classes]
        starts = np.concatenate(([0], np.cumsum([len(u) for u in units]))).astype(np.int64)
        copies = np.concatenate([c.copies[1:] for c in self.classes])
        table: FloatArray = cover_costs(starts, copies, np.concatenate(units), weights, UNITS)
        return table

    def cheap(self, weights: FloatArray, margin: float, most: int) -> Cheap:
        """Staffings within `margin` of the least cost, at most `most` of them.

        Of two staffings the one that takes no less of any row is left out, as is one that could do without a copy.
        """
        costs = self._costs(weights)
        search = _Enumeration(self.classes, weights, costs, margin, most)
        found, cost = search.run()
        order = np.lexsort((*found.T[::-1], cost))
        found, cost = found[order], cost[order]
        if len(cost) > 2 * most:
            search.lose(float(cost[2 * most]))
            found, cost = found[: 2 * most], cost[: 2 * most]
        kept = _undominated(found @ self.taken)
        found, cost = found[kept], cost[kept]
        if len(cost) > most:
            search.lose(float(cost[most]))
            found = found[:most]
        return Cheap(least=float(costs[0, UNITS]), margin=search.limit - float(costs[0, UNITS]), counts=found)

    def split(self, counts: IntArray) -> dict[int, int]:
        """Queue → copies of a staffing."""
        found: dict[int, int] = {}
        for copy_class, count in zip(self.classes, counts.tolist(), strict=True):
            row = copy_class.split[int(np.searchsorted(copy_class.copies, count))]
            found.update({q: int(n) for q, n in zip(copy_class.queues, row, strict=True) if n > 0})
        return found


class _Enumeration:
    """Breadth first over classes; what cannot end within the limit is cut off by the table of least costs."""

    def __init__(
        self, classes: tuple[CopyClass, ...], weights: FloatArray, costs: FloatArray, margin: float, most: int
    ) -> None:
        self._classes, self._weights, self._costs = classes, weights, costs
        self._widest = max(most, 1) * 16
        self.limit = float(costs[0, UNITS]) + margin

    def lose(self, cost: float) -> None:
        """Staffings that cost at least this much may be missing from now on."""
        self.limit = min(self.limit, cost)

    def run(self) -> tuple[IntArray, FloatArray]:
        """Counts [staffings, classes] and costs of those that need every copy they have."""
        counts = np.zeros((1, len(self._classes)), dtype=np.int64)
        covered, cost = np.zeros(1), np.zeros(1)
        done: list[tuple[IntArray, FloatArray, FloatArray]] = []
        for j in range(len(self._classes)):
            counts, covered, cost = self._extend(j, counts, covered, cost)
            full = covered >= FULL
            done.append((counts[full], covered[full], cost[full]))
            counts, covered, cost = self._narrow(j, counts[~full], covered[~full], cost[~full])
        all_counts = np.concatenate([d[0] for d in done])
        needed = self._needs_every_copy(all_counts, np.concatenate([d[1] for d in done]))
        return all_counts[needed], np.concatenate([d[2] for d in done])[needed]

    def _bound(self, j: int, covered: FloatArray, cost: FloatArray) -> FloatArray:
        """Least cost at which these can end with classes j.. still free."""
        left = np.clip(np.floor((1.0 - covered) * UNITS + ROUNDING), 0, UNITS).astype(np.int64)
        left[covered >= FULL] = 0
        return np.asarray(cost + self._costs[j][left], dtype=np.float64)

    def _extend(
        self, j: int, counts: IntArray, covered: FloatArray, cost: FloatArray
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        own = self._classes[j]
        wide_covered = covered[:, None] + own.covered[None, :]
        wide_cost = cost[:, None] + self._weights[j] * own.copies[None, :]
        bound = self._bound(j + 1, wide_covered.ravel(), wide_cost.ravel())
        kept = np.flatnonzero(bound <= self.limit + ROUNDING)
        source, option = np.divmod(kept, len(own.copies))
        extended = counts[source]
        extended[:, j] = own.copies[option]
        return extended, wide_covered.ravel()[kept], wide_cost.ravel()[kept]

    def _narrow(
        self, j: int, counts: IntArray, covered: FloatArray, cost: FloatArray
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Keep the most promising where there are too many to go on with."""
        after = len(self._classes[j + 1].copies) if j + 1 < len(self._classes) else 1
        widest = min(self._widest, max(1, LARGEST_TABLE // after))
        if len(cost) <= widest:
            return counts, covered, cost
        bound = self._bound(j + 1, covered, cost)
        order = np.argsort(bound, kind="stable")
        self.lose(float(bound[order[widest]]))
        kept = np.sort(order[:widest])
        return counts[kept], covered[kept], cost[kept]

    def _needs_every_copy(self, counts: IntArray, covered: FloatArray) -> BoolArray:
        needed = np.ones(len(counts), dtype=bool)
        for j, own in enumerate(self._classes):
            at = np.searchsorted(own.copies, counts[:, j])
            fewer = covered - own.covered[at] + own.covered[np.maximum(at - 1, 0)]
            needed &= ~((at > 0) & (fewer >= FULL))
        return needed


def _undominated(taken: FloatArray) -> IntArray:
    """Rows that no other row undercuts everywhere; of equal rows the first."""
    if len(taken) == 0:
        return np.zeros(0, dtype=np.int64)
    _, first = np.unique(taken, axis=0, return_index=True)
    first = np.sort(first)
    rows = taken[first]
    below = np.all(rows[:, None, :] <= rows[None, :, :], axis=2)
    np.fill_diagonal(below, False)
    return np.asarray(first[~below.any(axis=0)], dtype=np.int64)


def staffers(model: MixModel, must_serve: BoolArray) -> dict[int, Staffer]:
    """Demand → its classes, for the demands of `must_serve` [D] that have queues."""
    problem = model.problem
    found: dict[int, Staffer] = {}
    for demand in np.flatnonzero(must_serve & (problem.demand_rate_rps > 0)).tolist():
        queues = [q for q in np.flatnonzero(problem.share[:, demand] > 0).tolist() if model.bays[q]]
        if queues:
            found[demand] = _staffer(model, demand, queues)
    return found


def stands_alone(problem: MixProblem, demand: int) -> bool:
    """Whether a demand meets the rest of the problem only in rows where fewer copies are never worse.

    Only then can staffings replace its brackets and flows; for others the least cost of a staffing is still a bound.
    """
    if demand_survives(problem, demand):
        return False
    named = {i for r in problem.rules for block, i, _ in r.terms if block == Block.FLOW_RPS}
    named |= {i for r in problem.rules if not eases(r) for block, i, _ in r.terms if block == Block.COPIES}
    queues = np.flatnonzero(problem.share[:, demand] > 0).tolist()
    return all(np.count_nonzero(problem.share[q]) == 1 and q not in named for q in queues)


def demand_survives(problem: MixProblem, demand: int) -> bool:
    """Whether a survive row speaks of the demand's workload."""
    return any(row.workload == problem.demand_workload[demand] for row in problem.survive)


def _staffer(model: MixModel, demand: int, queues: list[int]) -> Staffer:
    members: dict[tuple[float, ...], list[int]] = {}
    for queue in queues:
        members.setdefault(tuple(row.taken.get(queue, 0.0) for row in model.copy_rows), []).append(queue)
    return Staffer(
        demand=demand,
        classes=tuple(_copy_class(model, demand, tuple(own), taken) for taken, own in sorted(members.items())),
    )


def _copy_class(model: MixModel, demand: int, queues: tuple[int, ...], taken: tuple[float, ...]) -> CopyClass:
    """The most that n copies of the class cover, over all ways of dividing them among its queues."""
    problem = model.problem
    covered = np.zeros(1)
    split = np.zeros((1, len(queues)), dtype=np.int64)
    for column, queue in enumerate(queues):
        rate = float(problem.demand_rate_rps[demand] / problem.share[queue, demand])
        curve = _curve(model.reduced.brackets[queue], rate)
        joint = np.full(len(covered) + len(curve) - 1, -np.inf)
        joint_split = np.zeros((len(joint), len(queues)), dtype=np.int64)
        for copies in np.flatnonzero(np.isfinite(curve)).tolist():
            value = np.minimum(1.0, covered + curve[copies])
            better = np.flatnonzero(value > joint[copies : copies + len(covered)])
            joint[better + copies] = value[better]
            joint_split[better + copies] = split[better]
            joint_split[better + copies, column] = copies
        covered, split = joint, joint_split
    useful = np.concatenate(([True], covered[1:] > np.maximum.accumulate(covered)[:-1]))
    return CopyClass(
        queues=queues,
        taken=taken,
        copies=np.flatnonzero(useful).astype(np.int64),
        covered=covered[useful],
        split=split[useful],
    )


def _curve(brackets: tuple[Bracket, ...], rate_rps: float) -> FloatArray:
    """[copies] fraction of the rate that so many copies of one queue serve; −inf where no bracket has that number."""
    curve = np.full(brackets[-1].high + 1, -np.inf)
    curve[0] = 0.0
    for bracket in brackets:
        copies = np.arange(bracket.low, bracket.high + 1)
        curve[bracket.low : bracket.high + 1] = np.minimum(1.0, bracket.capacity_rps * copies / rate_rps)
    return curve
