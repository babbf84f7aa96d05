"""Greedy placement: what stays, what is spread, what the repair makes room for, what it does not claim."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place_checker import check
from solvers.place_greedy import place_greedy
from solvers.place_numbering import cost
from solvers.place_problem import ApartRule, CapRule, Placement, PlaceProblem, SpreadRule
from tests.place_cases import fleet, make, running


def placed(problem: PlaceProblem) -> Placement:
    found = place_greedy(problem)
    assert found is not None
    assert check(problem, found) == []
    return found


def test_nodes_are_filled_and_others_left_empty() -> None:
    found = placed(make(sizes=[4, 4, 2, 2, 2, 2, 8], racks=[0, 0, 1, 1, 2]))
    assert found.nodes_used.tolist() == [3]


def test_groups_that_run_stay() -> None:
    problem = make(sizes=[2, 2, 4, 8], racks=[0] * 4, kinds=[0, 0, 1, 2], current=[3, 1, 2, -1])
    found = placed(problem)
    assert found.group_nodes == ((3,), (1,), (2,), (0,))
    assert found.moves_gpus == 0


def test_a_small_group_moves_for_a_large_one() -> None:
    # Four GPUs are free, two on each node: one group of two must go to the other node.
    problem = make(sizes=[2, 2, 2, 2, 2, 2, 4], racks=[0, 0], kinds=[0] * 6 + [1], current=[0, 0, 0, 1, 1, 1, -1])
    assert placed(problem).moves_gpus == 2


def test_nodes_of_a_rack_are_cleared_for_a_group_of_two_nodes() -> None:
    problem = make(sizes=[1, 1, 16], racks=[0, 0, 1], kinds=[0, 1, 2], current=[0, 1, -1])
    found = placed(problem)
    assert found.group_nodes[2] == (0, 1)
    assert found.moves_gpus == 2


def test_a_running_group_of_two_nodes_keeps_its_rack() -> None:
    problem = make(sizes=[16, 16], racks=[0, 0, 0, 1, 1, 1], kinds=[0, 0], current=[4, 1])
    found = placed(problem)
    assert 4 in found.group_nodes[0]
    assert 1 in found.group_nodes[1]
    assert found.moves_gpus == 0


def test_the_last_groups_reach_the_racks_that_a_spread_rule_lacks() -> None:
    problem = make(sizes=[8, 8, 1, 1, 1], racks=[0, 1, 2, 2, 2], kinds=[0, 0, 1, 1, 1], most_nodes=3)
    found = place_greedy(replace(problem, spread=(SpreadRule(rule="s", groups=(2, 3, 4), level=1, min_domains=3),)))
    # Two nodes are full and one is left: three racks are out of reach, and greedy must not say otherwise.
    assert found is None
    racks = replace(problem, spread=(SpreadRule(rule="s", groups=(0, 1, 2), level=1, min_domains=3),))
    assert {int(racks.node_rack[nodes[0]]) for nodes in placed(racks).group_nodes} == {0, 1, 2}


def test_caps_hold_against_staying() -> None:
    problem = make(sizes=[2, 2, 2], racks=[0, 0, 1], current=[0, 0, 0])
    capped = replace(problem, caps=(CapRule(rule="c", groups=(0, 1, 2), level=0, max_per_domain=1),))
    assert placed(capped).moves_gpus == 4


@pytest.mark.parametrize("seed", range(4))
def test_exactly_the_nodes_that_are_needed_are_enough(seed: int) -> None:
    problem = fleet(seed, nodes=100, kinds=30, fill_fraction=0.9)
    loose = placed(problem)
    tight = replace(problem, max_nodes_used=np.array([90]))
    assert int(placed(tight).nodes_used[0]) == 90 <= int(loose.nodes_used[0]) <= 91


def test_a_placement_that_runs_is_kept_as_it_is() -> None:
    problem = fleet(5, nodes=60, kinds=20, fill_fraction=0.95)
    first = placed(problem)
    again = running(problem, first)
    assert cost(again, placed(again))[:2] == (0, int(first.nodes_used[0]))


def test_a_group_on_both_sides_of_an_apart_rule_has_no_place() -> None:
    problem = make(sizes=[1, 1], racks=[0, 0])
    assert place_greedy(replace(problem, apart=(ApartRule(rule="a", first=(0,), second=(0, 1), level=0),))) is None


def test_no_groups_and_no_room() -> None:
    assert placed(make(sizes=[], racks=[0])).nodes_used.tolist() == [0]
    assert place_greedy(make(sizes=[8, 1], racks=[0])) is None
    assert place_greedy(make(sizes=[1], racks=[])) is None


def test_the_same_problem_has_the_same_placement() -> None:
    problem = fleet(1, nodes=50, kinds=20, fill_fraction=0.97)
    first, second = placed(problem), placed(problem)
    assert first.group_nodes == second.group_nodes
    assert first.group_gpu_indices == second.group_gpu_indices
