"""Why no placement exists: groups and rules that cannot stand together, each of them needed."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from solvers.place_bounds import contradiction
from solvers.place_cpsat import MOST_COUNTS, fits
from solvers.place_greedy import place_greedy
from solvers.place_kinds import Kind, kinds_of
from solvers.place_model import count_variables
from solvers.place_problem import Core, PlaceProblem
from solvers.place_validate import validate
from solvers.stop import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Something that may be left out: all groups of a kind (rule −1), or the rule at this position of all rules."""

    groups: tuple[int, ...] = ()
    rule: int = -1


@dataclass(slots=True)
class _Asker:
    """Answers whether parts of a problem can be placed. `sure` turns False once the limits leave a question open."""

    problem: PlaceProblem
    stop: Stop
    deadline_s: float
    sure: bool = True

    def impossible(self, parts: Sequence[_Part]) -> bool:
        """Proved that these parts alone have no placement."""
        part = _restricted(self.problem, parts)
        answer = self._fits(part)
        self.sure = self.sure and answer is not None
        return answer is False

    def _fits(self, part: PlaceProblem) -> bool | None:
        if contradiction(part) is not None:
            return False
        if place_greedy(part) is not None:
            return True
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0 or self.stop.cancelled() or count_variables(part) > MOST_COUNTS:
            return None
        return fits(part, replace(self.stop, wall_limit_s=left_s))


def core(problem: PlaceProblem, stop: Stop) -> Core:
    """Groups that cannot be placed together under the rules named; all of them are needed for that when `minimal`.

    A group that is left out counts as if it stood in domains of its own for spread rules: leaving out only ever eases,
    so the groups of a core cannot be placed whatever else is. A spread rule with fewer groups than domains is a core
    of its own, never called minimal. `stop.wall_limit_s` is for the whole search.
    Raises ValueError on a malformed problem, when a placement exists, or when the limits leave that open.
    """
    validate(problem)
    short = _short_of_groups(problem)
    if short is not None:
        return short
    asker = _Asker(problem, stop, time.monotonic() + stop.wall_limit_s)
    plain = contradiction(problem)
    if plain is not None and plain.minimal:
        return plain
    parts = _parts(problem, plain)
    if not asker.impossible(parts):
        raise ValueError("the placement problem is not known to be infeasible: there is no core")
    kept = _explain(asker, [], parts, known=False)
    kept = _fewer_groups(asker, kept)
    return Core(
        groups=tuple(sorted(group for part in kept for group in part.groups)),
        rules=tuple(dict.fromkeys(_rules(problem)[part.rule] for part in kept if part.rule >= 0)),
        minimal=asker.sure,
    )


def _short_of_groups(problem: PlaceProblem) -> Core | None:
    """A spread rule whose groups could not fill its domains even alone. More of them are needed: no core is minimal."""
    reach = {group: kind for kind in kinds_of(problem) for group in kind.groups}
    for rule in problem.spread:
        if _most_domains(reach, rule.groups, rule.level) < rule.min_domains:
            return Core(groups=tuple(sorted(rule.groups)), rules=(rule.rule,), minimal=False)
    return None


def _parts(problem: PlaceProblem, plain: Core | None) -> list[_Part]:
    """What the search starts from: all rules and kinds, or those of a conflict that is plain already."""
    names = _rules(problem)
    rules = [_Part(rule=r) for r in range(len(names)) if plain is None or names[r] in plain.rules]
    inside = set(range(len(problem.group_gpus)) if plain is None else plain.groups)
    members = [tuple(g for g in kind.groups if g in inside) for kind in kinds_of(problem)]
    return rules + [_Part(groups=groups) for groups in members if groups]


def _rules(problem: PlaceProblem) -> list[str]:
    return [r.rule for r in problem.spread] + [r.rule for r in problem.caps] + [r.rule for r in problem.apart]


def _explain(asker: _Asker, background: list[_Part], parts: list[_Part], *, known: bool) -> list[_Part]:
    """A minimal list of the parts that is impossible together with the background (Junker's QuickXplain, AAAI 2004).

    `known`: the background changed since it was last asked.
    """
    if known and asker.impossible(background):
        return []
    if len(parts) == 1:
        return parts
    half = len(parts) // 2
    second = _explain(asker, background + parts[:half], parts[half:], known=True)
    first = _explain(asker, background + second, parts[:half], known=bool(second))
    return first + second


def _fewer_groups(asker: _Asker, parts: list[_Part]) -> list[_Part]:
    """As few groups of each kind as stay impossible: alike, so only their number counts."""
    for position, part in enumerate(parts):
        low, high = 1, len(part.groups)
        while part.groups and low < high:
            middle = (low + high) // 2
            trial = [*parts[:position], _Part(groups=part.groups[:middle]), *parts[position + 1 :]]
            low, high = (low, middle) if asker.impossible(trial) else (middle + 1, high)
        if part.groups:
            parts = [*parts[:position], _Part(groups=part.groups[:high]), *parts[position + 1 :]]
    return parts


def _restricted(problem: PlaceProblem, parts: Sequence[_Part]) -> PlaceProblem:
    """The problem of these groups under these rules alone."""
    groups = sorted(group for part in parts for group in part.groups)
    rules = {part.rule for part in parts if part.rule >= 0}
    new = {group: position for position, group in enumerate(groups)}
    chosen = np.array(groups, dtype=np.int64)
    reach = {group: kind for kind in kinds_of(problem) for group in kind.groups}

    def members(old: Sequence[int]) -> tuple[int, ...]:
        return tuple(new[group] for group in old if group in new)

    caps_from, apart_from = len(problem.spread), len(problem.spread) + len(problem.caps)
    return replace(
        problem,
        group_pool=problem.group_pool[chosen],
        group_gpus=problem.group_gpus[chosen],
        group_one_domain=problem.group_one_domain[chosen],
        group_kind=problem.group_kind[chosen],
        allowed=problem.allowed[chosen],
        current_node=np.full(len(groups), -1, dtype=np.int64),
        spread=tuple(
            replace(
                rule,
                groups=members(rule.groups),
                min_domains=max(0, rule.min_domains - _most_domains(reach, set(rule.groups) - set(new), rule.level)),
            )
            for r, rule in enumerate(problem.spread)
            if r in rules
        ),
        caps=tuple(
            replace(rule, groups=members(rule.groups)) for r, rule in enumerate(problem.caps, caps_from) if r in rules
        ),
        apart=tuple(
            replace(rule, first=members(rule.first), second=members(rule.second))
            for r, rule in enumerate(problem.apart, apart_from)
            if r in rules
        ),
    )


def _most_domains(reach: dict[int, Kind], groups: Iterable[int], level: int) -> int:
    """The most domains that groups could stand in together."""
    return sum(reach[group].nodes_each if level == 0 else 1 for group in groups)
