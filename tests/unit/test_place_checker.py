"""The checker names every kind of violation, made by hand, and passes what is right."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from solvers.place_checker import check
from solvers.place_problem import ApartRule, CapRule, Placement, PlaceProblem, SpreadRule
from tests.place_cases import make


def problem() -> PlaceProblem:
    """Nodes 0, 1 in rack 0, nodes 2, 3 in rack 1, domains of 4; group 0 runs on node 0; group 3 needs two nodes."""
    plain = make(
        sizes=[4, 4, 2, 16],
        racks=[0, 0, 1, 1],
        domain=4,
        kinds=[0, 0, 1, 2],
        current=[0, 0, -1, -1],
        one_domain=[True, True, False, False],
    )
    return replace(
        plain,
        spread=(SpreadRule(rule="spread", groups=(0, 1), level=0, min_domains=2),),
        caps=(CapRule(rule="cap", groups=(0, 1), level=0, max_per_domain=1),),
        apart=(ApartRule(rule="apart", first=(0,), second=(2,), level=0),),
    )


def placement() -> Placement:
    return Placement(
        group_nodes=((0,), (1,), (1,), (2, 3)),
        group_gpu_indices=(((0, 1, 2, 3),), ((4, 5, 6, 7),), ((0, 1),), (tuple(range(8)), tuple(range(8)))),
        moves_gpus=4,
        nodes_used=np.array([4]),
    )


def moved(group: int, nodes: tuple[int, ...], indices: tuple[tuple[int, ...], ...]) -> Placement:
    good = placement()
    own_nodes, own_indices = list(good.group_nodes), list(good.group_gpu_indices)
    own_nodes[group], own_indices[group] = nodes, indices
    return replace(good, group_nodes=tuple(own_nodes), group_gpu_indices=tuple(own_indices))


def test_a_right_placement_passes() -> None:
    assert check(problem(), placement()) == []


EIGHT = tuple(range(8))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (replace(placement(), group_nodes=placement().group_nodes[:3]), "nodes of 3 groups"),
        (replace(placement(), group_gpu_indices=placement().group_gpu_indices[:3]), "GPUs of 3"),
        (moved(2, (), ()), "group 2 has no node"),
        (moved(3, (2, 2), (EIGHT, EIGHT)), "one twice"),
        (moved(3, (2, 3), (EIGHT,)), "GPU indices for 1"),
        (moved(2, (4,), ((0, 1),)), "there is no node 4"),
        (moved(2, (-1,), ((0, 1),)), "there is no node -1"),
        (moved(2, (1,), ((7, 8),)), "are not GPUs of node 1"),
        (moved(2, (1,), ((-1, 0),)), "are not GPUs of node 1"),
        (moved(2, (1,), ((0, 0),)), "each once"),
        (moved(2, (1,), ((),)), "each once"),
        (moved(2, (1,), ((0, 1, 2),)), "takes 3 GPUs, not 2"),
        (moved(2, (1,), ((0,),)), "takes 1 GPUs, not 2"),
        (moved(2, (1,), ((3, 4),)), "GPU 4 of node 1 is taken 2 times"),
        (moved(1, (1,), ((2, 3, 4, 5),)), "leaves its NVLink domain"),
        (moved(2, (0, 1), ((4,), (0,))), "takes 2 nodes, not the 1"),
        (moved(3, (3,), (EIGHT,)), "takes 1 nodes, not the 2"),
        (moved(3, (1, 3), (EIGHT, EIGHT)), "several racks"),
        (moved(2, (3,), ((0, 1),)), "node 3 belongs to a group of several nodes"),
        (moved(1, (0,), ((4, 5, 6, 7),)), "spread: 1 domains are reached"),
        (moved(1, (0,), ((4, 5, 6, 7),)), "cap: 2 groups in domain 0"),
        (moved(2, (0,), ((4, 5),)), "apart: domain 0 holds groups of both sides"),
        (replace(placement(), moves_gpus=0), "0 GPUs are said to move, 4 do"),
        (replace(placement(), nodes_used=np.array([3])), "are said to be [3], they are [4]"),
        (replace(placement(), nodes_used=np.array([4, 0])), "are said to be [4, 0]"),
    ],
)
def test_each_violation_is_named(wrong: Placement, word: str) -> None:
    assert any(word in sentence for sentence in check(problem(), wrong)), check(problem(), wrong)


def forbidden(p: PlaceProblem) -> PlaceProblem:
    allowed = p.allowed.copy()
    allowed[2, 1] = False
    return replace(p, allowed=allowed)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (forbidden, "group 2 may not stand on node 1"),
        (lambda p: replace(p, max_nodes_used=np.array([3])), "4 nodes are used, at most 3"),
        (
            lambda p: replace(p, node_pool=np.array([0, 0, 1, 1]), max_nodes_used=np.array([4, 4])),
            "outside its pool",
        ),
        (lambda p: replace(p, current_node=np.array([-1, -1, 0, -1])), "4 GPUs are said to move, 2 do"),
        (
            lambda p: replace(p, group_one_domain=np.array([True, True, False, True])),
            "whole nodes that are not one NVLink domain",
        ),
        (
            lambda p: replace(p, spread=(SpreadRule(rule="zones", groups=(0, 1, 2), level=2, min_domains=2),)),
            "zones: 1 domains",
        ),
        (
            lambda p: replace(p, caps=(CapRule(rule="racks", groups=(0, 1, 2), level=1, max_per_domain=2),)),
            "racks: 3 groups in domain 0",
        ),
        (lambda p: replace(p, apart=(ApartRule(rule="far", first=(0,), second=(1,), level=1),)), "far: domain 0"),
    ],
)
def test_the_same_placement_breaks_a_stricter_problem(
    change: Callable[[PlaceProblem], PlaceProblem], word: str
) -> None:
    found = check(change(problem()), placement())
    assert any(word in sentence for sentence in found), found


def test_whole_nodes_are_of_the_largest_size() -> None:
    mixed = make(sizes=[12], racks=[0, 0, 0], gpus=[8, 8, 4])
    wrong = Placement(
        group_nodes=((0, 2),),
        group_gpu_indices=((EIGHT, (0, 1, 2, 3)),),
        moves_gpus=0,
        nodes_used=np.array([2]),
    )
    assert any("other than 8 GPUs" in sentence for sentence in check(mixed, wrong))


def test_a_group_of_several_nodes_counts_once_in_its_rack_and_stays_if_any_node_stays() -> None:
    two = replace(
        make(sizes=[16], racks=[0, 0, 0], current=[1]),
        caps=(CapRule(rule="cap", groups=(0,), level=1, max_per_domain=1),),
    )
    kept = Placement(group_nodes=((1, 2),), group_gpu_indices=((EIGHT, EIGHT),), moves_gpus=0, nodes_used=np.array([2]))
    assert check(two, kept) == []
