"""What a solver says of its own run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from solvers.result import Termination


class RunLimits(Protocol):
    """The limits that a backend hands to its solver."""

    @property
    def gap_fraction(self) -> float:
        """Stop when (objective − bound) ÷ objective is at most this."""

    @property
    def max_nodes(self) -> int:
        """Branch-and-bound nodes."""

    @property
    def wall_s(self) -> float:
        """Wall clock, the last resort."""

    @property
    def seed(self) -> int:
        """Of the solver's own randomness."""

    @property
    def cancelled(self) -> Callable[[], bool]:
        """Asked during the run; True ends it with the best point so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """`termination` FEASIBLE means that a limit on nodes ended the run; `bound` in the units of the objective given."""

    termination: Termination
    has_solution: bool
    bound: float | None = None
    nodes: int = 0
