"""Why a mix problem has no solution, and what would give it one (F8).

Three answers: an irreducible set of parties (rules by name, the supply of a pool, the demand of a workload) that
cannot hold together; how much demand stays unmet when more important levels are served first; and for each party of
the set the smallest change of its own number that makes a mix possible with everything else as it is.
"""

import time
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from solvers.mix_model import MixModel, Party, Slack, build
from solvers.mix_narrow import run_serve, tighten
from solvers.mix_problem import MixProblem
from solvers.mix_stages import Stage, StagedSolve, shown_values
from solvers.mix_survive import add_survive_rows
from solvers.mix_validate import validate
from solvers.pulp_backend import Limits, PulpProgram
from solvers.result import Termination
from solvers.stop import Stop

FloatArray = NDArray[np.float64]
QUESTION_NODES = 300
GAP_FRACTION = 5e-4  # of shortages and smallest changes: below one node of a thousand
SHORTAGE_SHARE = 0.25
QUESTION_SHARE = 0.05  # of the wall time left, for one question
RELAXATION_SHARE = 0.15
MOVED = 1e-7  # a slack below this, as a fraction of its row, is the solver's tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The smallest change of one party with which the problem is feasible, the rest of its conflict as it is.

    `row` counts the problem's rule rows and then its survive rows; −1 for a supply (`now` and `needed` are nodes)
    and a demand (requests/s of the workload). A rule of several rows has one relaxation for each row that must
    move; they go together. `proven`: no change smaller by more than 0.05 % does. `alone`: no other conflict has to
    be solved as well.
    """

    party: Party
    row: int
    now: float
    needed: float
    proven: bool
    alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """Unmet demand when every level takes what it can before the next: (stage, Σ unmet fraction) and requests/s."""

    levels: tuple[tuple[str, float], ...]
    unmet_rps: FloatArray  # [D]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """`parties` cannot hold together, nor can those of each of `others`, which have no party in common.

    `irreducible`: of no set can a party go. `shortage` is None when the rules conflict whatever is served (or no
    answer came within the limits). No parties at all: limits ended the search before a conflict was proved.
    """

    parties: tuple[Party, ...]
    others: tuple[tuple[Party, ...], ...]
    irreducible: bool
    shortage: Shortage | None
    relaxations: tuple[Relaxation, ...]
    notes: tuple[str, ...]


def explain(problem: MixProblem, stop: Stop, seed: int) -> Conflict:
    """Why the problem is infeasible. Raises ValueError if it is malformed, or if a mix for it exists."""
    validate(problem)
    shortage = _shortage(problem, stop, seed)
    model = build(problem)
    add_survive_rows(model)
    search = _Search(model, stop, seed)
    if search.answer(frozenset(), True) == Answer.FEASIBLE:
        raise ValueError("the problem has a mix: there is no conflict to explain")
    sets = search.conflicts()
    relaxations = [
        relaxation
        for number, parties in enumerate(sets)
        for party in parties
        for relaxation in search.relaxations(party, [p for n, own in enumerate(sets) if n != number for p in own])
    ]
    return Conflict(
        parties=tuple(sets[0]) if sets else (),
        others=tuple(tuple(own) for own in sets[1:]),
        irreducible=search.certain,
        shortage=shortage,
        relaxations=tuple(relaxations),
        notes=tuple(dict.fromkeys(search.notes)),
    )


class Answer(StrEnum):
    """Whether a mix exists."""

    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


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
        self._tighten()

    def _tighten(self) -> None:
        """Cuts that hold whatever is opened, found where all demand may go unmet; shortages then show in the LP."""
        self._open(frozenset(party for party in self.model.slacks if party.kind == "demand"))
        terms = {s.column: 1.0 for p, slacks in self.model.slacks.items() if p.kind == "demand" for s in slacks}
        if terms:
            staged = StagedSolve(self.model, self.program, self.stop, self.seed)
            tighten(staged, Stage(name="unmet", terms=terms))

    def _limits(self, share: float) -> Limits:
        return Limits(
            gap_fraction=max(self.stop.gap_fraction, GAP_FRACTION),
            max_nodes=min(self.stop.max_nodes, QUESTION_NODES),
            wall_s=max(0.01, (self.ends_s - time.monotonic()) * share),
            seed=self.seed,
            cancelled=self.stop.cancelled,
        )

    def _open(self, parties: frozenset[Party]) -> None:
        for party, slacks in self.model.slacks.items():
            for slack in slacks:
                self.program.set_bounds(slack.column, 0.0, slack.upper if party in parties else slack.closed)

    def answer(self, opened: frozenset[Party], integral: bool) -> Answer:
        """Whether a mix exists without the opened parties (`integral`: in whole copies)."""
        self._open(opened)
        run = self.program.minimise if integral else self.program.minimise_relaxed
        outcome = run({}, self._limits(QUESTION_SHARE))
        if outcome.termination == Termination.INFEASIBLE:
            return Answer.INFEASIBLE
        if outcome.values is not None:
            return Answer.FEASIBLE
        self.certain = False
        self.notes.append("limits ended a question whether a mix exists: the parties may not all be needed")
        return Answer.UNKNOWN

    def conflicts(self) -> list[list[Party]]:
        """Disjoint sets of parties that conflict, until what is left has a mix."""
        found: list[list[Party]] = []
        opened: frozenset[Party] = frozenset()
        while self.answer(opened, True) == Answer.INFEASIBLE:
            parties = self._irreducible(opened)
            if not parties:
                break
            found.append(parties)
            opened |= frozenset(parties)
        return found

    def _irreducible(self, opened: frozenset[Party]) -> list[Party]:
        """Parties that conflict, none of which can go; the linear relaxation narrows them down first."""
        # Tried first goes first: what remains speaks of rules rather than supplies, of supplies rather than demands.
        order = sorted(
            (party for party in self.model.slacks if party not in opened),
            key=lambda party: (("demand", "supply", "rule").index(party.kind), party),
        )
        if self.answer(opened, False) == Answer.INFEASIBLE:
            order = self._shrink(order, False)
        return self._shrink(order, True)

    def _shrink(self, kept: list[Party], integral: bool) -> list[Party]:
        """Delete chunks of the kept parties, halving their size down to one, while the rest still conflicts."""
        everyone = frozenset(self.model.slacks)
        size = max(1, len(kept) // 2)
        while kept:
            start = 0
            while start < len(kept):
                trial = kept[:start] + kept[start + size :]
                if self.answer(everyone - frozenset(trial), integral) == Answer.INFEASIBLE:
                    kept = trial
                else:
                    start += size
            if size == 1:
                break
            size = max(1, size // 2)
        return kept

    def relaxations(self, party: Party, others: list[Party]) -> list[Relaxation]:
        """What of this party must change when all others stay but those of other conflicts, which are opened."""
        self._open(frozenset(others))
        slacks = [slack for slack in self.model.slacks[party] if slack.moves]
        for slack in slacks:
            self.program.set_bounds(slack.column, 0.0, slack.upper)
        terms = {slack.column: self._weight(slack) for slack in slacks}
        outcome = self.program.minimise(terms, self._limits(RELAXATION_SHARE))
        if outcome.values is None:
            if outcome.termination != Termination.INFEASIBLE:
                self.notes.append(f"limits ended the search for the smallest change of {party}")
            return []
        proven, alone = outcome.termination == Termination.OPTIMAL, not others
        moved = [(slack, float(outcome.values[slack.column])) for slack in slacks]
        if party.kind == "demand":
            rates = dict(zip(self.model.unmet.tolist(), self.model.problem.demand_rate_rps.tolist(), strict=True))
            now = sum(rates[slack.column] for slack, _ in moved)
            unmet = sum(rates[slack.column] * value for slack, value in moved)
            return [Relaxation(party=party, row=-1, now=now, needed=now - unmet, proven=proven, alone=alone)]
        found = [(slack, *self._numbers(slack, value)) for slack, value in moved if value > slack.closed + MOVED]
        return [
            Relaxation(party=party, row=slack.row, now=now, needed=needed, proven=proven, alone=alone)
            for slack, now, needed in found
        ]

    def _numbers(self, slack: Slack, value: float) -> tuple[float, float]:
        """(now, needed) of the bound that a slack of this value moves."""
        if slack.row < 0:
            return slack.closed, value
        now = self._bound(slack.row)
        return now, now + slack.unit * value

    def _weight(self, slack: Slack) -> float:
        """Slacks of one party count by how far they are from the number they change."""
        if slack.row < 0:
            return 1.0
        return abs(slack.unit) / max(1.0, abs(self._bound(slack.row)))

    def _bound(self, row: int) -> float:
        rules = self.model.problem.rules
        return rules[row].bound if row < len(rules) else self.model.problem.survive[row - len(rules)].fraction


def _shortage(problem: MixProblem, stop: Stop, seed: int) -> Shortage | None:
    """Node limits first: a level whose optimum is not proved still says who is served."""
    stop = replace(
        stop,
        gap_fraction=max(stop.gap_fraction, GAP_FRACTION),
        max_nodes=min(stop.max_nodes, QUESTION_NODES),
        wall_limit_s=stop.wall_limit_s * SHORTAGE_SHARE,
    )
    model = build(replace(problem, allow_unmet=True))
    add_survive_rows(model)
    staged = StagedSolve(model, PulpProgram(model.linear, "highs"), stop, seed)
    if not run_serve(staged, {}) or staged.values is None:
        return None
    unmet = np.array([staged.values[c] if c >= 0 else 0.0 for c in model.unmet], dtype=np.float64)
    unmet[(unmet < MOVED) | problem.workload_best_effort[problem.demand_workload]] = 0.0
    return Shortage(levels=shown_values(staged), unmet_rps=unmet * problem.demand_rate_rps)
