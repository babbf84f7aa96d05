"""Putting a group down and lifting it again leaves nothing behind."""

from dataclasses import replace

import numpy as np

from solvers.place_problem import ApartRule, CapRule, SpreadRule
from solvers.place_state import State, empty_state, frame_of, lift, new_domains, open_nodes, put, room
from tests.place_cases import make


def state() -> State:
    plain = make(
        sizes=[16, 4, 4, 2],
        racks=[0, 0, 1, 1],
        domain=4,
        kinds=[0, 1, 1, 2],
        one_domain=[False, True, True, False],
        most_nodes=3,
    )
    problem = replace(
        plain,
        spread=(SpreadRule(rule="s", groups=(1, 2), level=1, min_domains=2),),
        caps=(CapRule(rule="c", groups=(1, 2), level=0, max_per_domain=1),),
        apart=(ApartRule(rule="a", first=(1, 2), second=(3,), level=0),),
    )
    return empty_state(frame_of(problem))


def snapshot(of: State) -> list[object]:
    arrays = [of.free, of.total, of.used, *of.spread_counts, *of.cap_counts]
    arrays += [counts for pair in of.apart_counts for counts in pair]
    return [*(a.tolist() for a in arrays), list(of.nodes_left), list(of.spread_left), of.at, of.groups_on, of.shares]


def test_lift_undoes_put() -> None:
    one = state()
    before = repr(snapshot(one))
    for group, nodes in ((0, (2, 3)), (1, (0,)), (3, (0,))):
        put(one, group, nodes)
    assert repr(snapshot(one)) != before
    for group in (0, 3, 1):
        lift(one, group)
    assert repr(snapshot(one)) == before


def test_rules_close_nodes() -> None:
    one = state()
    put(one, 1, (0,))
    # Group 2 is the last that can bring the second rack.
    assert open_nodes(one, one.frame.kind_of[2]).tolist() == [False, False, True, True]
    new = new_domains(one, one.frame.kind_of[2])
    assert new is not None
    assert new.tolist() == [0, 0, 1, 1]
    # Group 3 keeps apart from node 0.
    assert open_nodes(one, one.frame.kind_of[3]).tolist() == [False, True, True, True]
    put(one, 2, (2,))
    assert new_domains(one, one.frame.kind_of[2]) is None
    assert not open_nodes(one, one.frame.kind_of[2])[[0, 2]].any()


def test_no_more_nodes_are_opened_than_may_be() -> None:
    one = state()
    put(one, 0, (2, 3))
    put(one, 1, (0,))
    assert one.nodes_left == [0]
    assert not open_nodes(one, one.frame.kind_of[3])[1]
    assert not room(one, one.frame.kind_of[3])[[2, 3]].any()


def test_a_bound_group_needs_room_in_one_domain() -> None:
    one = state()
    put(one, 3, (0,))
    assert one.free[0].tolist() == [2, 4]
    assert room(one, one.frame.kind_of[1])[0]
    one.free[0] = np.array([2, 2])
    one.total[0] = 4
    assert not room(one, one.frame.kind_of[1])[0]
