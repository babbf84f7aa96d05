"""The capacity in force: the analytic estimate of every queue, only ever tightened by simulation (F5)."""

import numpy as np
from numpy.typing import NDArray

from planner.capacity import BRACKETS
from planner.queues import Queue


class CapacityTable:
    """Capacity per copy of each queue at each number of copies in `BRACKETS`, requests/s of the queue's mix."""

    def __init__(self, queues: tuple[Queue, ...]) -> None:
        self._rows = [list(queue.analytic_rps) for queue in queues]

    def per_copy_rps(self, queue: int, copies: int) -> float:
        """Capacity per copy at this number of copies: that of the largest tabulated number not above it."""
        return self._rows[queue][bracket_of(copies)]

    def tighten(self, queue: int, copies: int, rate_rps: float) -> None:
        """Note that so many copies hold at most `rate_rps` together; fewer copies hold at most their part of it."""
        per_copy = rate_rps / copies
        row = self._rows[queue]
        for i in range(bracket_of(copies) + 1):
            row[i] = min(row[i], per_copy)

    def brackets(self, queue: Queue) -> list[tuple[int, int, float]]:
        """(low, high, capacity per copy) up to the queue's most copies; empty when one copy serves nothing.

        Neighbours of equal capacity are joined, which keeps the MILP small.
        """
        found: list[tuple[int, int, float]] = []
        for i, low in enumerate(BRACKETS):
            if low > queue.max_copies:
                break
            high = min(BRACKETS[i + 1] - 1 if i + 1 < len(BRACKETS) else queue.max_copies, queue.max_copies)
            capacity = self._rows[queue.index][i]
            if capacity <= 0:
                continue
            if found and found[-1][1] == low - 1 and np.isclose(found[-1][2], capacity, rtol=1e-3):
                found[-1] = (found[-1][0], high, min(found[-1][2], capacity))
            else:
                found.append((low, high, capacity))
        return found

    def row(self, queue: int) -> NDArray[np.float64]:
        """A copy of a queue's capacities per copy."""
        return np.array(self._rows[queue])


def bracket_of(copies: int) -> int:
    """Position in `BRACKETS` of the largest number that is not above `copies`."""
    return int(np.searchsorted(BRACKETS, copies, side="right")) - 1
