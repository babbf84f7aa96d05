"""Why groups cannot be placed: a small set of kinds and rules that conflict, by deletion."""

from solvers.place_cpsat import feasible
from solvers.place_kinds import Kind, kinds_of
from solvers.place_problem import Core, PlaceProblem
from solvers.stop import Stop

Rules = tuple[list[int], list[int], list[int]]


def core(problem: PlaceProblem, stop: Stop) -> Core:
    """Groups that cannot stand together, and the rules that this needs; every one of them is needed when `minimal`.

    Raises ValueError when a placement exists, or when the limits leave it open.
    """
    kinds = kinds_of(problem)
    rules: Rules = (
        list(range(len(problem.spread))),
        list(range(len(problem.caps))),
        list(range(len(problem.apart))),
    )
    if feasible(problem, kinds, rules, stop) is not False:
        raise ValueError("the placement problem is not known to be infeasible: there is no core")
    minimal = True
    for position in range(3):
        for rule in list(rules[position]):
            trial = _without(rules, position, rule)
            answer = feasible(problem, kinds, trial, stop)
            minimal = minimal and answer is not None
            if answer is False:
                rules = trial
    for kind in list(kinds):
        answer = feasible(problem, _others(kinds, kind), rules, stop) if _may_go(problem, rules, kind) else True
        minimal = minimal and answer is not None
        if answer is False:
            kinds = _others(kinds, kind)
    names = [problem.spread[i].rule for i in rules[0]]
    names += [problem.caps[i].rule for i in rules[1]] + [problem.apart[i].rule for i in rules[2]]
    return Core(
        groups=tuple(sorted(g for kind in kinds for g in kind.groups)),
        rules=tuple(dict.fromkeys(names)),
        minimal=minimal,
    )


def _without(rules: Rules, position: int, rule: int) -> Rules:
    kept = [list(one) for one in rules]
    kept[position].remove(rule)
    return kept[0], kept[1], kept[2]


def _others(kinds: list[Kind], kind: Kind) -> list[Kind]:
    return [other for other in kinds if other is not kind]


def _may_go(problem: PlaceProblem, rules: Rules, kind: Kind) -> bool:
    """A spread rule needs its groups: leaving them out would break it, not ease it."""
    return not any(set(problem.spread[i].groups) & set(kind.groups) for i in rules[0])
