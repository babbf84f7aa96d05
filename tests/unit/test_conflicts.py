"""Explanations of infeasible problems: the conflict is one, none of it can go, and what is said to help does."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.conflicts import Conflict, Relaxation, explain
from solvers.mix_milp import solve
from solvers.mix_model import Party
from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow
from solvers.stop import Stop
from tests.mix_cases import make, random_small, two_pools

EXACT = Stop(gap_fraction=0.0)
MANY = 60


def has_mix(problem: MixProblem) -> bool:
    return solve(problem, EXACT, 1).solution is not None


def only(problem: MixProblem, parties: list[Party]) -> MixProblem:
    """The problem without the rules, supplies and demands that are not among the parties."""
    kept = {p.name for p in parties if p.kind == "rule"}
    supplies = {p.index for p in parties if p.kind == "supply"}
    demands = {p.index for p in parties if p.kind == "demand"}
    workloads = range(len(problem.workload_best_effort))
    return replace(
        problem,
        rules=tuple(r for r in problem.rules if r.rule in kept),
        survive=tuple(r for r in problem.survive if r.rule in kept),
        pool_max_nodes=np.array([n if i in supplies else MANY for i, n in enumerate(problem.pool_max_nodes)]),
        workload_best_effort=problem.workload_best_effort | np.array([w not in demands for w in workloads]),
    )


def relaxed(problem: MixProblem, conflict: Conflict, party: Party, step: float) -> MixProblem:
    """The problem with every change that the conflict names for a party, and `step` (of a rule's bound) past it."""
    changes = [r for r in conflict.relaxations if r.party == party]
    for change in changes:
        problem = _changed(problem, change, step * (1.0 if change.needed > change.now else -1.0))
    return problem


def _changed(problem: MixProblem, change: Relaxation, step: float) -> MixProblem:
    if change.party.kind == "supply":
        nodes = problem.pool_max_nodes.copy()
        nodes[change.party.index] = round(change.needed)
        return replace(problem, pool_max_nodes=nodes)
    if change.row < len(problem.rules):
        rules = list(problem.rules)
        rules[change.row] = replace(rules[change.row], bound=change.needed + step)
        return replace(problem, rules=tuple(rules))
    rows = list(problem.survive)
    at = change.row - len(problem.rules)
    rows[at] = replace(rows[at], fraction=max(0.0, change.needed + step))
    return replace(problem, survive=tuple(rows))


def test_conflicts_of_random_problems_are_irreducible() -> None:
    explained = 0
    for seed in range(60):
        problem = random_small(seed)
        if has_mix(problem):
            continue
        conflict = explain(problem, EXACT, 1)
        assert conflict.irreducible
        for parties in (conflict.parties, *conflict.others):
            assert not has_mix(only(problem, list(parties)))
            for party in parties:
                assert has_mix(only(problem, [p for p in parties if p != party]))
        explained += 1
    assert explained >= 15


def test_relaxations_of_random_problems_help() -> None:
    tried = 0
    for seed in range(60):
        problem = random_small(seed)
        if has_mix(problem):
            continue
        conflict = explain(problem, EXACT, 1)
        for relaxation in conflict.relaxations:
            if relaxation.alone and relaxation.party.kind != "demand":
                assert has_mix(relaxed(problem, conflict, relaxation.party, 1e-6))
                tried += 1
    assert tried >= 10


def test_two_rules_that_contradict_each_other() -> None:
    rules = (
        RuleRow(rule="at least four", terms=((Block.COPIES, 0, 1.0),), sense=">=", bound=4.0),
        RuleRow(rule="budget", terms=((Block.PAID_GPUS, 0, 2.0), (Block.PAID_GPUS, 1, 1.0)), sense="<=", bound=99.0),
        RuleRow(rule="at most three", terms=((Block.COPIES, 0, 1.0),), sense="<=", bound=3.0),
    )
    conflict = explain(replace(two_pools(), rules=rules), EXACT, 1)
    assert [str(party) for party in conflict.parties] == ["at least four", "at most three"]
    assert conflict.shortage is None
    assert {r.party.name: r.now for r in conflict.relaxations} == {"at least four": 4.0, "at most three": 3.0}
    needed = {r.party.name: r.needed for r in conflict.relaxations}
    assert needed == pytest.approx({"at least four": 3.0, "at most three": 4.0})


def test_a_supply_that_is_short() -> None:
    """Three copies of 2 GPUs are needed in pool 1, whose two nodes hold two."""
    short = replace(two_pools(), pool_max_nodes=np.array([2, 2]))
    conflict = explain(short, EXACT, 1)
    assert [str(party) for party in conflict.parties] == ["demand of workload 1", "supply of pool 1"]
    assert conflict.shortage is not None
    assert conflict.shortage.unmet_rps == pytest.approx([0.0, 0.4])
    assert dict(conflict.shortage.levels) == pytest.approx({"serve_1": 0.2})
    assert {str(r.party): r.now for r in conflict.relaxations} == {"supply of pool 1": 2.0, "demand of workload 1": 2.0}
    needed = {str(r.party): r.needed for r in conflict.relaxations}
    assert needed == pytest.approx({"supply of pool 1": 3.0, "demand of workload 1": 1.6})
    assert all(r.proven and r.alone for r in conflict.relaxations)


def test_the_shortage_goes_to_the_lower_level() -> None:
    short = replace(two_pools(), pool_max_nodes=np.array([0, 3]), workload_priority=np.array([2, 1]))
    conflict = explain(short, EXACT, 1)
    assert conflict.shortage is not None
    assert conflict.shortage.unmet_rps == pytest.approx([6.0, 0.0])


def test_a_loss_that_cannot_be_survived() -> None:
    problem = make(
        prices=[1.0],
        per_node=[1],
        nodes=[3],
        by_node=[False],
        rates=[2.0],
        queues=[(0, 1, 3, [1.0])],
        brackets=[[(1, 3, 1.0)]],
    )
    rack = SurviveRow(rule="rack", workload=0, fraction=0.9, kind="domain", pool_domains=np.array([2]))
    conflict = explain(replace(problem, survive=(rack,)), EXACT, 1)
    assert [str(p) for p in conflict.parties] == ["rack"]  # three copies at most, by the queue itself
    assert [r.now for r in conflict.relaxations] == [0.9]
    assert [r.needed for r in conflict.relaxations] == pytest.approx([0.5])


def test_a_problem_that_has_a_mix_has_no_conflict() -> None:
    with pytest.raises(ValueError, match="no conflict"):
        explain(two_pools(), EXACT, 1)
