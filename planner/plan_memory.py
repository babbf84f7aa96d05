"""What is kept from one plan to the next, so that a plan that differs a little costs less. No figure depends on it."""

from dataclasses import dataclass, field

from planner.cell_memory import CellMemory
from planner.memo import Memo
from planner.queue_build import Settled
from profiles.step_table import StepTable


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMemory:
    """`cells`: scores of simulated cells; `steps`: step tables; `settings`: what layouts do best with a mix.

    Safe to share between threads.
    """

    cells: CellMemory = field(default_factory=CellMemory)
    steps: Memo[StepTable] = field(default_factory=Memo)
    settings: Memo[Settled] = field(default_factory=Memo)
