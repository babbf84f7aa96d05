"""Why a mix problem has no solution, and what would give it one (F8).

Three answers: an irreducible set of parties (rules by name, the supply of a pool, the demand of a workload) that
cannot hold together; how much demand stays unmet when more important levels are served first; and for each party of
the set the smallest change of its own number that makes a mix possible with everything else as it is.
"""

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from solvers.mix_model import MixModel, Party, Slack, build
from solvers.mix_problem import MixProblem
from solvers.mix_stages import StagedSolve, serve_stages, shown_values
from solvers.mix_survive import add_survive_rows
from solvers.mix_validate import validate
from solvers.pulp_backend import Limits, PulpProgram
from solvers.result import Termination
from solvers.stop import Stop

FloatArray = NDArray[np.float64]
MOVED = 1e-7  # a slack below this, as a fraction of its row, is the solver's tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The smallest change of one party that alone makes the problem feasible.

    `row` counts the problem's rule rows and then its survive rows; −1 for a supply (`now` and `needed` are nodes)
    and a demand (requests/s of the workload). A rule of several rows has one relaxation for each row that must
    move; they go together. `proven`: no smaller change does.
    """

    party: Party
    row: int
    now: float
    needed: float
    proven: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Unmet demand when every level takes what it can before the next: (stage, Σ unmet fraction) and requests/s."""

    levels: tuple[tuple[str, float], ...]
    unmet_rps: FloatArray  # [D]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """`parties` cannot hold together; `irreducible`: every one is needed for that. `shortage` is None when the
    rules conflict whatever is served (or no answer came within the limits). Empty `parties`: copies, brackets and
    shares alone admit no mix.
    """

    parties: tuple[Party, ...]
    irreducible: bool
    shortage: Shortage | None
    relaxations: tuple[Relaxation, ...]
    notes: tuple[str, ...]


def explain(problem: MixProblem, stop: Stop, seed: int) -> Conflict:
    """Why the problem is infeasible. Raises ValueError if it is malformed, or if a mix for it exists."""
    validate(problem)
    model = build(problem)
    add_survive_rows(model)
    search = _Search(model, stop, seed)
    if search.feasible(frozenset(), True):
        raise ValueError("the problem has a mix: there is no conflict to explain")
    parties = search.irreducible()
    relaxations = [found for party in parties for found in search.relaxations(party)]
    return Conflict(
        parties=tuple(parties),
        irreducible=search.certain,
        shortage=_shortage(problem, stop, seed),
        relaxations=tuple(relaxations),
        notes=tuple(search.notes),
    )


@dataclass(slots=True)
class _Search:
    """Opens and closes parties of one model. `certain`: every question so far was answered within the limits."""

    model: MixModel
    stop: Stop
    seed: int
    certain: bool = True
    notes: list[str] = field(default_factory=list)
    program: PulpProgram = field(init=False)
    ends_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.program = PulpProgram(self.model.linear, "highs")
        self.ends_s = time.monotonic() + self.stop.wall_limit_s

    def _limits(self) -> Limits:
        return Limits(
            max_nodes=self.stop.max_nodes,
            wall_s=max(0.01, self.ends_s - time.monotonic()),
            seed=self.seed,
            cancelled=self.stop.cancelled,
        )

    def _open(self, parties: frozenset[Party]) -> None:
        for party, slacks in self.model.slacks.items():
            for slack in slacks:
                self.program.set_bounds(slack.column, 0.0, slack.upper if party in parties else slack.closed)

    def feasible(self, opened: frozenset[Party], integral: bool) -> bool:
        """Whether a mix exists without the opened parties; True, and no longer certain, where limits end the search."""
        self._open(opened)
        run = self.program.minimise if integral else self.program.minimise_relaxed
        outcome = run({}, self._limits())
        if outcome.termination == Termination.INFEASIBLE:
            return False
        if outcome.values is None:
            self.certain = False
            self.notes.append(f"limits ended the question whether a mix exists ({outcome.termination})")
        return True

    def irreducible(self) -> list[Party]:
        """Parties that conflict, none of which can go; the linear relaxation narrows them down first."""
        # Tried first goes first: what remains speaks of rules rather than supplies, and of supplies rather than demands.
        order = sorted(self.model.slacks, key=lambda party: (("demand", "supply", "rule").index(party.kind), party))
        if not self.feasible(frozenset(), False):
            order = self._shrink(order, order, False)
        return self._shrink(order, list(self.model.slacks), True)

    def _shrink(self, kept: list[Party], everyone: list[Party], integral: bool) -> list[Party]:
        """Delete chunks of the kept parties, halving their size down to one, while the rest still conflicts."""
        size = max(1, len(kept) // 2)
        while kept:
            start = 0
            while start < len(kept):
                trial = kept[:start] + kept[start + size :]
                if self.feasible(frozenset(everyone) - frozenset(trial), integral):
                    start += size
                else:
                    kept = trial
            if size == 1:
                break
            size = max(1, size // 2)
        return kept

    def relaxations(self, party: Party) -> list[Relaxation]:
        """What of this party must change when all others stay; nothing if that cannot help."""
        self._open(frozenset((party,)))
        slacks = self.model.slacks[party]
        terms = {slack.column: self._weight(slack) for slack in slacks}
        outcome = self.program.minimise(terms, self._limits())
        if outcome.values is None:
            if outcome.termination != Termination.INFEASIBLE:
                self.notes.append(f"limits ended the search for the smallest change of {party}")
            return []
        proven = outcome.termination == Termination.OPTIMAL
        moved = [(slack, float(outcome.values[slack.column])) for slack in slacks]
        if party.kind == "demand":
            return [self._demand_relaxation(party, moved, proven)]
        return [self._relaxation(party, s, value, proven) for s, value in moved if value > s.closed + MOVED]

    def _weight(self, slack: Slack) -> float:
        """Slacks of one party count by how far they are from the number they change."""
        if slack.row < 0:
            return 1.0
        return abs(slack.unit) / max(1.0, abs(self._bound(slack.row)))

    def _bound(self, row: int) -> float:
        rules = self.model.problem.rules
        return rules[row].bound if row < len(rules) else self.model.problem.survive[row - len(rules)].fraction

    def _relaxation(self, party: Party, slack: Slack, value: float, proven: bool) -> Relaxation:
        if slack.row < 0:
            return Relaxation(party=party, row=-1, now=slack.closed, needed=value, proven=proven)
        now = self._bound(slack.row)
        return Relaxation(party=party, row=slack.row, now=now, needed=now + slack.unit * value, proven=proven)

    def _demand_relaxation(self, party: Party, moved: list[tuple[Slack, float]], proven: bool) -> Relaxation:
        problem = self.model.problem
        rates = {
            int(column): float(rate) for column, rate in zip(self.model.unmet, problem.demand_rate_rps, strict=True)
        }
        now = sum(rates[slack.column] for slack, _ in moved)
        unmet = sum(rates[slack.column] * value for slack, value in moved)
        return Relaxation(party=party, row=-1, now=now, needed=now - unmet, proven=proven)


def _shortage(problem: MixProblem, stop: Stop, seed: int) -> Shortage | None:
    model = build(replace(problem, allow_unmet=True))
    add_survive_rows(model)
    staged = StagedSolve(model, PulpProgram(model.linear, "highs"), stop, seed)
    for stage in serve_stages(model):
        if not staged.run(stage):
            return None
        staged.keep(stage, staged.runs[-1].value)
    if staged.values is None:
        return None
    values = staged.values
    unmet = np.array([values[c] if c >= 0 else 0.0 for c in model.unmet], dtype=np.float64)
    unmet[(unmet < MOVED) | problem.workload_best_effort[problem.demand_workload]] = 0.0
    return Shortage(levels=shown_values(staged), unmet_rps=unmet * problem.demand_rate_rps)
