"""What every technique returns: `solve(problem, stop, seed) -> Result`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

SolutionT = TypeVar("SolutionT")


class Termination(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Generic[SolutionT]):
    """A solution that its checker passed, or none, with the bound that was proved.

    `objective` and `bound` are in the problem's own unit (minimised); `bound` is a lower bound on every
    solution of the problem as posed. `work` counts the technique's own steps (nodes, iterations).
    """

    termination: Termination
    solution: SolutionT | None
    objective: float | None
    bound: float | None
    work: int = 0
    notes: tuple[str, ...] = ()

    @property
    def gap_fraction(self) -> float | None:
        """(objective − bound) ÷ objective, at least 0; None without a solution or a bound."""
        if self.objective is None or self.bound is None:
            return None
        if self.objective <= 0:
            return 0.0
        return max(0.0, (self.objective - self.bound) / self.objective)
