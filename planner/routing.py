"""From a mix's flows to cells: which slice of every demand's requests goes to which queue."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cells import CellKey, CellScore, CellSimulator, Slice
from planner.mix_build import Market
from planner.queues import CapacityServing
from solvers.mix_problem import MixSolution

FloatArray = NDArray[np.float64]
SMALLEST_SLICE = 1e-9
FIRST_DRAWS = 2
"""Draws on which a clear miss is looked for before the others are simulated."""
CLEAR_MISS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """Attainment of one workload over the draws, with the planning rule mean − 2 · standard error >= target."""

    workload: int
    per_draw: FloatArray
    target: float

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return float(self.per_draw.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for one draw."""
        if self.per_draw.size < 2:
            return 0.0
        return float(self.per_draw.std(ddof=1) / np.sqrt(self.per_draw.size))

    @property
    def clearly_misses(self) -> bool:
        """Whether twice as many requests miss as may: no further draw would change that."""
        return 1.0 - self.mean > CLEAR_MISS * (1.0 - self.target)

    @property
    def holds(self) -> bool:
        """Whether the planning rule holds."""
        return self.mean - 2.0 * self.standard_error >= self.target


def cells_of(market: Market, copies: NDArray[np.int64], flow_rps: FloatArray) -> tuple[CellKey, ...]:
    """The cells of a mix, by queue. Slices of a demand are laid side by side in the order of the queues."""
    slices: dict[int, list[Slice]] = {}
    for demand in market.demands:
        low = 0.0
        for queue in market.queues:
            part = dict(queue.parts).get(demand.index, 0.0)
            width = float(flow_rps[queue.index]) * part / demand.rate_rps
            if width <= SMALLEST_SLICE:
                continue
            high = min(1.0, low + width)
            # A remainder of rounding belongs to the last route, not to nobody.
            high = 1.0 if high > 1.0 - 1e-6 else round(high, 9)
            slices.setdefault(queue.index, []).append(Slice(demand=demand.index, low=low, high=high))
            low = high
    return tuple(
        CellKey(queue=index, copies=int(copies[index]), slices=tuple(parts)) for index, parts in sorted(slices.items())
    )


def attainments(
    market: Market, simulator: CellSimulator, cells: tuple[CellKey, ...], draws: int | None = None
) -> list[Attainment]:
    """Attainment of every workload on the first `draws` draws (default: all); requests that no cell takes miss (where
    unmet demand is allowed, the target is of what is served).

    A queue known only by a capacity table counts as attaining: that is what the user's table says of it.
    """
    simulated = [c for c in cells if not isinstance(market.queues[c.queue].template.serving, CapacityServing)]
    given = [c for c in cells if isinstance(market.queues[c.queue].template.serving, CapacityServing)]
    count = simulator.draws.count if draws is None else min(draws, simulator.draws.count)
    met = np.zeros((len(market.workloads), count))
    total = np.zeros_like(met)
    for workload in market.workloads:
        for k in range(count):
            total[workload.index, k] = np.count_nonzero(simulator.draws.get(workload.index, k).scored)
    for score in simulator.scores(simulated, count):
        for i, workload_index in enumerate(score.workloads):
            met[workload_index] += score.attained[:, i]
    for cell in given:
        for s in cell.slices:
            owner = market.demands[s.demand].workload
            for k in range(count):
                one = simulator.draws.get(owner, k)
                inside = one.scored & (one.demand == s.demand) & (one.uniform >= s.low) & (one.uniform < s.high)
                met[owner, k] += np.count_nonzero(inside)
    served = served_fractions(market, cells)
    return [
        Attainment(
            workload=w.index,
            per_draw=met[w.index] / np.maximum(total[w.index], 1),
            target=w.target * served[w.index] if market.allow_unmet else w.target,
        )
        for w in market.workloads
    ]


def served_fractions(market: Market, cells: tuple[CellKey, ...]) -> FloatArray:
    """Share of each workload's requests that some cell takes, shape (workloads,)."""
    served = np.zeros(len(market.workloads))
    for cell in cells:
        for s in cell.slices:
            demand = market.demands[s.demand]
            served[demand.workload] += demand.rate_rps * (s.high - s.low)
    return np.asarray(served / np.array([w.rate_rps for w in market.workloads]))


def failing_cells(
    market: Market, simulator: CellSimulator, cells: tuple[CellKey, ...], missed: set[int], draws: int | None = None
) -> list[CellKey]:
    """Of the cells that serve a workload which misses, those below its target; if none is, the one that is worst.

    With some of the draws only, those that clearly miss.
    """
    found: list[CellKey] = []
    worst: tuple[float, CellKey] | None = None
    simulated = [c for c in cells if not isinstance(market.queues[c.queue].template.serving, CapacityServing)]
    for cell, score in zip(simulated, simulator.scores(simulated, draws), strict=True):
        for one in _of_cell(market, score):
            if one.workload not in missed:
                continue
            fails = not one.holds if draws is None else one.clearly_misses
            if fails and cell not in found:
                found.append(cell)
            shortfall = one.mean - one.target
            if worst is None or shortfall < worst[0]:
                worst = (shortfall, cell)
    return found or ([worst[1]] if worst else [])


def narrowed(cell: CellKey, fraction: float) -> CellKey:
    """The cell with that fraction of its traffic."""
    return CellKey(
        queue=cell.queue,
        copies=cell.copies,
        slices=tuple(
            Slice(demand=s.demand, low=s.low, high=round(s.low + fraction * (s.high - s.low), 9)) for s in cell.slices
        ),
    )


def rate_rps(market: Market, cell: CellKey) -> float:
    """Requests per second that the cell's slices bring."""
    return sum(market.demands[s.demand].rate_rps * (s.high - s.low) for s in cell.slices)


def cell_holds(market: Market, simulator: CellSimulator, cell: CellKey) -> bool:
    """Whether every workload of the cell meets its target by the planning rule, on the cell's own requests.

    A cell that misses twice as many as it may on the first two draws is not simulated on the others.
    """
    if any(one.clearly_misses for one in _of_cell(market, simulator.scores([cell], FIRST_DRAWS)[0])):
        return False
    return all(one.holds for one in _of_cell(market, simulator.scores([cell])[0]))


def _of_cell(market: Market, score: CellScore) -> list[Attainment]:
    """Attainment of the cell's workloads on its own requests."""
    return [
        Attainment(
            workload=w,
            per_draw=score.attained[:, i] / np.maximum(score.offered[:, i], 1),
            target=market.workloads[w].target,
        )
        for i, w in enumerate(score.workloads)
    ]


def solution_cells(market: Market, solution: MixSolution) -> tuple[CellKey, ...]:
    """The cells of a solved mix."""
    return cells_of(market, solution.copies, solution.flow_rps)
