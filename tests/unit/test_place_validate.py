"""Malformed placement problems are refused by the name of their field."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from solvers.place import solve
from solvers.place_problem import ApartRule, CapRule, PlaceProblem, SpreadRule
from solvers.place_validate import validate
from solvers.stop import Stop
from tests.place_cases import make


def base() -> PlaceProblem:
    return make(sizes=[2, 2, 4], racks=[0, 0, 1, 1])


def test_a_proper_problem_passes() -> None:
    validate(base())
    validate(make(sizes=[], racks=[]))


def with_field(name: str, values: list[int]) -> PlaceProblem:
    return replace(base(), **{name: np.array(values, dtype=np.int64)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["node_gpus", "group_gpus", "node_domain_gpus", "current_node", "node_rack", "max_nodes_used", "group_kind"]
)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1.5])
def test_floats_are_refused(name: str, wrong: float) -> None:
    values = np.full(len(getattr(base(), name)), wrong)
    with pytest.raises(ValueError, match=name):
        validate(replace(base(), **{name: values}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["node_pool", "node_rack", "node_zone", "node_domain_gpus", "group_pool", "group_one_domain", "current_node"],
)
def test_wrong_lengths_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        validate(replace(base(), **{name: getattr(base(), name)[:-1]}))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("node_gpus", [8, 8, 0, 8]),
        ("node_domain_gpus", [8, 8, -1, 8]),
        ("group_gpus", [2, 0, 4]),
        ("node_pool", [0, 0, 0, 1]),
        ("group_pool", [0, 0, -1]),
        ("node_rack", [0, 0, -1, 1]),
        ("node_zone", [0, 1, 0, 0]),
        ("current_node", [-2, -1, -1]),
        ("current_node", [4, -1, -1]),
        ("max_nodes_used", [-1]),
        ("group_gpus", [2, 2, 10**12]),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, values: list[int]) -> None:
    with pytest.raises(ValueError, match=name):
        validate(with_field(name, values))


def test_allowed_must_be_booleans_of_groups_by_nodes() -> None:
    with pytest.raises(ValueError, match="allowed"):
        validate(replace(base(), allowed=base().allowed.T))
    with pytest.raises(ValueError, match="allowed"):
        validate(replace(base(), allowed=base().allowed.astype(np.int64)))


def spread(problem: PlaceProblem, groups: tuple[int, ...], level: int, least: int) -> PlaceProblem:
    return replace(problem, spread=(SpreadRule(rule="r", groups=groups, level=level, min_domains=least),))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: spread(p, (0, 3), 0, 1), "spread 'r'"),
        (lambda p: spread(p, (0, 0), 0, 1), "named twice"),
        (lambda p: spread(p, (0,), 3, 1), "level"),
        (lambda p: spread(p, (0,), 0, -1), "min_domains"),
        (lambda p: replace(p, caps=(CapRule(rule="c", groups=(0,), level=0, max_per_domain=-1),)), "max_per_domain"),
        (lambda p: replace(p, caps=(CapRule(rule="c", groups=(-1,), level=0, max_per_domain=1),)), "caps 'c'"),
        (lambda p: replace(p, apart=(ApartRule(rule="a", first=(0,), second=(9,), level=0),)), "apart 'a'"),
    ],
)
def test_malformed_rules_are_refused(change: Callable[[PlaceProblem], PlaceProblem], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        validate(change(base()))


def test_solve_validates() -> None:
    with pytest.raises(ValueError, match="group_gpus"):
        solve(with_field("group_gpus", [2, -2, 4]), Stop(), 0)
