"""What the repair would lift to make room: the cheapest groups, never larger ones, never the same one for ever."""

from dataclasses import replace

from solvers.place_problem import PlaceProblem, SpreadRule
from solvers.place_repair import MOST_LIFTS, cheapest_eviction, movable_for
from solvers.place_state import State, empty_state, frame_of, put
from tests.place_cases import make


def standing(problem: PlaceProblem, at: dict[int, int]) -> State:
    state = empty_state(frame_of(problem))
    for group, node in at.items():
        put(state, group, (node,))
    return state


def test_groups_that_run_nowhere_yet_are_lifted_first() -> None:
    problem = make(sizes=[2, 2, 2, 2, 2, 2, 4], racks=[0, 0], kinds=[0, 0, 0, 1, 1, 1, 2], current=[0] * 3 + [-1] * 4)
    state = standing(problem, {0: 0, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1})
    assert cheapest_eviction(state, 6, {}) == ((1,), (3,))


def test_several_small_groups_make_room_for_a_large_one() -> None:
    problem = make(
        sizes=[1] * 6 + [2] * 3 + [4], racks=[0, 0], kinds=[0] * 6 + [1] * 3 + [2], current=[0] * 6 + [1] * 4
    )
    state = standing(problem, dict.fromkeys(range(6), 0) | dict.fromkeys(range(6, 9), 1))
    found = cheapest_eviction(state, 9, {})
    assert found is not None
    nodes, lifted = found
    # Two GPUs must go either way: two groups of one, or one of two.
    assert sum(int(problem.group_gpus[g]) for g in lifted) == 2
    assert all(state.at[g] == nodes for g in lifted)


def test_a_group_that_a_spread_rule_needs_is_lifted_last() -> None:
    plain = make(sizes=[8, 8, 8, 8], racks=[0, 1, 2], kinds=[0, 0, 1, 2])
    problem = replace(plain, spread=(SpreadRule(rule="s", groups=(0, 1), level=1, min_domains=2),))
    state = standing(problem, {0: 0, 1: 1, 2: 2})
    assert cheapest_eviction(state, 3, {}) == ((2,), (2,))


def test_larger_groups_and_those_lifted_too_often_stay() -> None:
    problem = make(sizes=[8, 4, 2, 2], racks=[0, 0], kinds=[0, 1, 2, 3])
    state = standing(problem, {0: 0, 1: 1, 2: 1})
    assert cheapest_eviction(state, 3, {}) == ((1,), ())
    full = standing(problem, {0: 0})
    put(full, 1, (1,))
    put(full, 2, (1,))
    full.total[1] = 0
    assert cheapest_eviction(full, 3, {}) == ((1,), (2,))
    assert cheapest_eviction(full, 3, {2: MOST_LIFTS}) is None


def test_the_cheapest_nodes_of_a_rack_are_cleared() -> None:
    problem = make(
        sizes=[1, 2, 4, 16], racks=[0, 0, 0, 1], kinds=[0, 1, 2, 3], current=[0, 1, 2, -1], one_domain=[False] * 4
    )
    state = standing(problem, {0: 0, 1: 1, 2: 2})
    found = cheapest_eviction(state, 3, {})
    assert found == ((0, 1), (0, 1))


def test_a_larger_group_may_move_into_room_that_is_there() -> None:
    problem = make(sizes=[4, 4, 2], racks=[0, 1], kinds=[0, 0, 1])
    state = standing(problem, {0: 0, 1: 0})
    # The two groups of four are alike: one of them is enough to try; node 1 has room and nobody to move.
    assert movable_for(state, 2) == [(0, 0)]


def test_rooms_of_one_domain_are_made_in_one_domain() -> None:
    problem = make(
        sizes=[2, 2, 2, 4], racks=[0], domain=4, kinds=[0, 1, 2, 3], current=[0, -1, 0, -1], one_domain=[True] * 4
    )
    state = standing(problem, {0: 0, 1: 0, 2: 0})
    found = cheapest_eviction(state, 3, {})
    assert found is not None
    # One domain holds groups 0 and 1, the other group 2: emptying the second moves one group less.
    assert found == ((0,), (2,))
