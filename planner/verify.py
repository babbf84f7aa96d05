"""The verify loop (F5): solve, place, simulate; where simulation disagrees with the capacity table, only tighten it.

It ends: keys are finite, each is only tightened, and a failing point is excluded by the tightening that it causes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.capacity_table import CapacityTable
from planner.cells import CellKey, CellSimulator, Slice
from planner.mix_build import Market, mix_problem
from planner.progress import Progress
from planner.queues import LlmServing, Queue
from planner.reprice import with_copies
from planner.routing import (
    FIRST_DRAWS,
    Attainment,
    attainments,
    cell_holds,
    failing_cells,
    narrowed,
    rate_rps,
    solution_cells,
)
from planner.so_far import mix_so_far
from solvers import mix_milp
from solvers.mix_problem import MixProblem, MixSolution, RuleRow
from solvers.place_problem import Placement
from solvers.result import Result
from solvers.stop import Stop

IntArray = NDArray[np.int64]
MOST_ROUNDS = 24
MOST_RIVALS = 4
RIVAL_COST = 2.0
"""Queues that would cost more than this many times the cheapest are left to their estimate."""
JUST_BELOW = 0.999
MOST_CUTS = 10
BISECTION_STEPS = 5
LEAST_SAFE_FRACTION = 0.25
SCALE_UP_ROUNDS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What placing a mix gave: a placement, or a cut for the mix, or neither when the answer is not known."""

    placement: Placement | None
    cut: RuleRow | None


Place = Callable[[MixSolution], Placed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A mix with its placement and what simulation said of it."""

    solution: MixSolution
    placement: Placement
    cells: tuple[CellKey, ...]
    attainments: tuple[Attainment, ...]
    draws: int | None = None
    """Draws that were simulated; None for all. Only a mix that clearly misses is left with some of them."""

    @property
    def holds(self) -> bool:
        """Whether the planning rule holds for every workload."""
        return not self.missed

    @property
    def missed(self) -> set[int]:
        """Workloads that miss; on some of the draws, those that clearly do."""
        if self.draws is not None:
            return {a.workload for a in self.attainments if a.clearly_misses}
        return {a.workload for a in self.attainments if not a.holds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The end of the loop: the mix that holds, or the last one, or none; the last MILP result with its bound under
    the capacity table then in force; and the placement's cuts.
    """

    best: Candidate | None
    last: Result[MixSolution]
    rounds: int
    cuts: tuple[RuleRow, ...]
    problem: MixProblem


@dataclass(slots=True, kw_only=True)
class Search:
    """State of one verify loop."""

    market: Market
    table: CapacityTable
    simulator: CellSimulator
    place: Place
    stop: Stop
    seed: int
    solver: str
    progress: Progress

    def run(self) -> Found:
        """Solve, place, simulate and tighten until a mix holds that no tightened table makes cheaper."""
        cuts: list[RuleRow] = []
        found: Found | None = None
        for round_number in range(1, MOST_ROUNDS + 1):
            if found is not None and found.best is not None and self.stop.cancelled():
                break
            problem = mix_problem(self.market, self.table.brackets, cuts)
            with self.progress.stage("mix"):
                result = mix_milp.solve(problem, self.stop, self.seed, self.solver)
            before = found
            found = Found(best=None, last=result, rounds=round_number, cuts=tuple(cuts), problem=problem)
            if result.solution is None:
                if before is not None and before.best is not None and self.stop.cancelled():
                    found = before
                    break
                return found
            with self.progress.stage("placement"):
                placed = self.place(result.solution)
            if placed.placement is None:
                if placed.cut is None or len(cuts) >= MOST_CUTS:
                    return found
                cuts.append(placed.cut)
                self.progress.say(f"round {round_number}: cannot be placed; one cut more ({placed.cut.rule})")
                continue
            self.progress.mix = mix_so_far(self.market, self.table, result.solution)
            candidate = self.candidate(result.solution, placed.placement)
            self._tell(round_number, candidate)
            found = replace(found, best=candidate)
            if candidate.holds:
                return found
            with self.progress.stage("tighten"):
                self._tighten(candidate)
        return self._made_safe(found)

    def _made_safe(self, found: Found | None) -> Found:
        """The last mix with copies added until it holds; as it was, and said not to hold, where that finds no room."""
        if found is None:
            raise RuntimeError("the verify loop ran no round")
        if found.best is None:
            return found
        self.progress.say("adding copies to the last mix until it holds")
        with self.progress.stage("scale_up"):
            return replace(found, best=self._scale_up(found.best) or found.best)

    def candidate(self, solution: MixSolution, placement: Placement) -> Candidate:
        """The mix with its simulated attainments."""
        cells = solution_cells(self.market, solution)
        with self.progress.stage("simulate"):
            draws: int | None = FIRST_DRAWS
            found = attainments(self.market, self.simulator, cells, draws)
            if not any(a.clearly_misses for a in found):
                draws = None
                found = attainments(self.market, self.simulator, cells)
        return Candidate(solution=solution, placement=placement, cells=cells, attainments=tuple(found), draws=draws)

    def _tell(self, round_number: int, candidate: Candidate) -> None:
        missed = [self.market.workloads[w].name for w in sorted(candidate.missed)]
        verdict = "holds" if not missed else "misses for " + ", ".join(missed)
        self.progress.say(f"round {round_number}: {candidate.solution.cost_usd_per_hour:.2f} USD/h {verdict}")

    def _tighten(self, candidate: Candidate) -> None:
        missed = candidate.missed
        if self.stop.cancelled():
            return
        for cell in failing_cells(self.market, self.simulator, candidate.cells, missed, candidate.draws):
            if self.stop.cancelled():
                return
            self.progress.go_on()
            safe = safe_fraction(self.market, self.simulator, cell)
            rate = rate_rps(self.market, cell) * safe
            # Strictly below the failing point, so that the same mix never comes back.
            self.table.tighten(cell.queue, cell.copies, rate)
        for workload in sorted(missed):
            for queue in self._rivals(workload):
                if not self.stop.cancelled():
                    self._settle(queue)

    def _rivals(self, workload: int) -> list[Queue]:
        """The cheapest queues that could serve the workload by themselves: where the next round would turn to."""
        priced = []
        for queue in self.market.queues:
            mine = {d for d, _ in queue.parts}
            if not isinstance(queue.template.serving, LlmServing) or mine != set(
                self.market.workloads[workload].classes
            ):
                continue
            copies = self._copies_needed(queue)
            if copies is not None:
                pool = queue.template.pool
                priced.append((copies * queue.template.gpus * pool.price_in_objective, queue.index))
        priced.sort()
        return [self.market.queues[index] for cost, index in priced[:MOST_RIVALS] if cost <= RIVAL_COST * priced[0][0]]

    def _copies_needed(self, queue: Queue) -> int | None:
        """Fewest copies that carry all of the queue's demands under the table in force."""
        rate = sum(self.market.demands[d].rate_rps for d, _ in queue.parts)
        return next(
            (n for n in range(1, queue.max_copies + 1) if n * self.table.per_copy_rps(queue.index, n) >= rate), None
        )

    def _settle(self, queue: Queue) -> None:
        """Find the fewest copies that carry all of the queue's demands, and tighten the table below them.

        Gallops up from what the table asks for, then halves back; a number that fails is excluded, no more.
        """
        copies, step, failed = self._copies_needed(queue), 1, 0
        while copies is not None and not self._carries(queue, copies):
            failed = copies
            least = self._copies_needed(queue)
            copies = None if least is None else min(max(least, failed + step), queue.max_copies)
            step *= 2
            if failed >= queue.max_copies:
                return
        while copies is not None and copies - failed > 1:
            middle = (failed + copies) // 2
            if self._carries(queue, middle):
                copies = middle
            else:
                failed = middle

    def _carries(self, queue: Queue, copies: int) -> bool:
        """Whether so many copies hold all of the queue's demands; if not, the table learns it."""
        slices = tuple(Slice(demand=d, low=0.0, high=1.0) for d, _ in queue.parts)
        cell = CellKey(queue=queue.index, copies=copies, slices=slices)
        self.progress.go_on()
        if cell_holds(self.market, self.simulator, cell):
            return True
        self.table.tighten(queue.index, copies, rate_rps(self.market, cell) * JUST_BELOW)
        return False

    def _scale_up(self, candidate: Candidate) -> Candidate | None:
        """Add copies to the failing cells of the last mix until it holds; None when no room is left."""
        for _ in range(SCALE_UP_ROUNDS):
            missed = candidate.missed
            if not missed:
                return candidate
            copies = candidate.solution.copies.copy()
            for cell in failing_cells(self.market, self.simulator, candidate.cells, missed, candidate.draws):
                copies[cell.queue] += max(1, cell.copies // 8)
            more = self.changed(candidate.solution, copies)
            if more is None:
                return None
            candidate = more
        return candidate if candidate.holds else None

    def changed(self, solution: MixSolution, copies: IntArray) -> Candidate | None:
        """The mix on other numbers of copies, placed and simulated; None when a rule or the nodes forbid it."""
        more = with_copies(self.market, self.table.brackets, (), solution, copies)
        if more is None:
            return None
        with self.progress.stage("placement"):
            placed = self.place(more)
        return self.candidate(more, placed.placement) if placed.placement is not None else None


def safe_fraction(market: Market, simulator: CellSimulator, cell: CellKey) -> float:
    """Largest fraction of the cell's traffic, below 1, at which it holds, by bisection; at least a quarter is tried."""
    low, high = 0.0, 1.0
    middle = 0.85
    for _ in range(BISECTION_STEPS):
        if cell_holds(market, simulator, narrowed(cell, middle)):
            low = middle
        else:
            high = middle
            if high <= LEAST_SAFE_FRACTION:
                break
        middle = 0.5 * (low + high) if low > 0 else max(LEAST_SAFE_FRACTION, high * 0.75)
    return low
