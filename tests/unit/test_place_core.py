"""Cores of conflicts made by hand; `tests/reference/test_place_agree.py` checks random ones against enumeration."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place_core import core
from solvers.place_problem import ApartRule, CapRule, PlaceProblem, SpreadRule
from solvers.stop import Stop
from tests.place_cases import fleet, make, small


def within(problem: PlaceProblem, groups: tuple[int, ...], racks: int) -> PlaceProblem:
    allowed = problem.allowed.copy()
    allowed[list(groups)] = problem.node_rack < racks
    return replace(problem, allowed=allowed)


def test_two_kinds_that_must_share_racks_and_may_not() -> None:
    problem = fleet(0, nodes=40, kinds=15, fill_fraction=0.8)
    first, second = (rule.groups for rule in problem.spread[:2])
    problem = within(within(problem, first, 3), second, 3)
    apart = ApartRule(rule="apart", first=first, second=second, level=1)
    found = core(replace(problem, apart=(apart,)), Stop())
    assert found.minimal
    assert "apart" in found.rules
    assert set(found.rules) <= {"apart", problem.spread[0].rule, problem.spread[1].rule}
    assert set(found.groups) <= {*first, *second}


def test_only_as_many_groups_as_it_takes() -> None:
    problem = make(sizes=[2] * 6 + [1], racks=[0, 1, 2], kinds=[0] * 6 + [1])
    problem = within(problem, (0, 1, 2, 3, 4, 5), 2)
    cap = CapRule(rule="cap", groups=(0, 1, 2, 3, 4, 5), level=0, max_per_domain=2)
    found = core(replace(problem, caps=(cap,)), Stop())
    assert (found.groups, found.rules, found.minimal) == ((0, 1, 2, 3, 4), ("cap",), True)


def test_sizes_alone_need_no_rule() -> None:
    problem = make(sizes=[5, 5, 5, 3, 1], racks=[0, 0], kinds=[0, 0, 0, 1, 2])
    spread = SpreadRule(rule="s", groups=(3,), level=0, min_domains=1)
    found = core(replace(problem, spread=(spread,)), Stop())
    assert (found.groups, found.rules, found.minimal) == ((0, 1, 2), (), True)


def test_a_spread_out_of_reach_names_its_rule() -> None:
    problem = within(make(sizes=[1, 1, 1, 8], racks=[0, 1, 2], kinds=[0, 0, 0, 1]), (0, 1, 2), 2)
    spread = SpreadRule(rule="s", groups=(0, 1, 2), level=1, min_domains=3)
    found = core(replace(problem, spread=(spread,)), Stop())
    assert (found.groups, found.rules, found.minimal) == ((0, 1, 2), ("s",), True)


def test_fewer_groups_than_domains_are_said_to_be_that() -> None:
    problem = make(sizes=[1, 1], racks=[0, 1, 2])
    found = core(replace(problem, spread=(SpreadRule(rule="s", groups=(0, 1), level=1, min_domains=3),)), Stop())
    assert (found.groups, found.rules) == ((0, 1), ("s",))
    assert not found.minimal


def test_no_core_of_what_can_be_placed_or_is_not_known() -> None:
    with pytest.raises(ValueError, match="not known to be infeasible"):
        core(make(sizes=[8], racks=[0]), Stop())
    hard = replace(fleet(0, nodes=60, kinds=25, fill_fraction=0.9), max_nodes_used=np.array([54]))
    with pytest.raises(ValueError, match="not known to be infeasible"):
        core(hard, Stop(max_deterministic_s=1e-6))


def test_limits_leave_a_core_that_is_not_called_minimal() -> None:
    problem = small(28)
    found = core(problem, Stop(wall_limit_s=0.0))
    proved = core(problem, Stop())
    assert not found.minimal
    assert proved.minimal
    assert len(proved.groups) < len(found.groups)
