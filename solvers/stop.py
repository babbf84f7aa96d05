"""When a solve stops: limits on work first, so that a seed gives the same answer; a wall limit last."""

from collections.abc import Callable
from dataclasses import dataclass, field


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Limits of one solve.

    `gap_fraction`: stop when (objective − bound) ÷ objective is at most this. `max_nodes`: branch-and-bound nodes.
    `max_deterministic_s`: CP-SAT's deterministic time. `wall_limit_s`: the last resort; a solve that it ends is not
    reproducible. `cancelled`: asked between steps, True ends the solve with the best solution so far.
    """

    gap_fraction: float = 1e-6
    max_nodes: int = 200_000
    max_deterministic_s: float = 5.0
    wall_limit_s: float = 60.0
    cancelled: Callable[[], bool] = field(default=_never)
