"""Bounds and plain contradictions, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place_bounds import contradiction, fewest_nodes
from solvers.place_problem import CapRule, PlaceProblem, SpreadRule
from tests.place_cases import make


def test_fewest_nodes() -> None:
    assert fewest_nodes(make(sizes=[], racks=[0])) == 0
    assert fewest_nodes(make(sizes=[5, 5, 5], racks=[0] * 4)) == 3
    assert fewest_nodes(make(sizes=[4, 4, 2, 2, 4], racks=[0] * 4)) == 2
    assert fewest_nodes(make(sizes=[12, 1], racks=[0] * 4)) == 3
    assert fewest_nodes(make(sizes=[8, 4, 4], racks=[0] * 4, gpus=[4, 4, 8, 8])) == 2
    small = make(sizes=[1, 1, 1, 1], racks=[0, 0, 1, 1])
    spread = SpreadRule(rule="s", groups=(0, 1, 2), level=0, min_domains=3)
    assert fewest_nodes(replace(small, spread=(spread,))) == 3
    cap = CapRule(rule="c", groups=(0, 1, 2, 3), level=0, max_per_domain=1)
    assert fewest_nodes(replace(small, caps=(cap,))) == 4


def pinned(groups: list[int], nodes: list[int], problem: PlaceProblem) -> PlaceProblem:
    allowed = problem.allowed.copy()
    allowed[groups] = False
    allowed[np.ix_(groups, nodes)] = True
    return replace(problem, allowed=allowed)


def test_a_group_that_can_stand_nowhere() -> None:
    for problem in (
        pinned([1], [], make(sizes=[1, 2], racks=[0, 0])),
        make(sizes=[1, 16], racks=[0, 1, 2]),
        make(sizes=[1, 16], racks=[0, 0], most_nodes=1),
        make(sizes=[1, 5], racks=[0, 0], domain=4, one_domain=[True, True]),
    ):
        found = contradiction(problem)
        assert found is not None
        assert (found.groups, found.rules, found.minimal) == ((1,), (), True)


@pytest.mark.parametrize(("reach", "possible"), [([0, 1], False), ([0, 1, 2], True)])
def test_a_spread_over_more_racks_than_the_groups_may_reach(reach: list[int], possible: bool) -> None:
    problem = pinned([0, 1, 2], reach, make(sizes=[1, 1, 1], racks=[0, 1, 2]))
    rule = SpreadRule(rule="s", groups=(0, 1, 2), level=1, min_domains=3)
    found = contradiction(replace(problem, spread=(rule,)))
    assert (found is None) is possible
    assert found is None or found.rules == ("s",)


def test_more_groups_than_caps_leave_room_for() -> None:
    problem = make(sizes=[1] * 5, racks=[0, 0, 1, 1])
    rule = CapRule(rule="c", groups=(0, 1, 2, 3, 4), level=1, max_per_domain=2)
    found = contradiction(replace(problem, caps=(rule,)))
    assert found is not None
    assert found.rules == ("c",)
    assert contradiction(replace(problem, caps=(replace(rule, groups=(0, 1, 2, 3)),))) is None


def test_more_gpus_than_the_nodes_that_may_be_used() -> None:
    problem = make(sizes=[5, 5, 5, 1], racks=[0] * 4, most_nodes=2)
    found = contradiction(problem)
    assert found is not None
    assert found.groups == (0, 1, 2)
    assert contradiction(replace(problem, max_nodes_used=np.array([3]))) is None
