"""The enumeration itself, on problems whose best placement is plain to see."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.place_checker import check
from solvers.place_exhaustive import optimum
from solvers.place_problem import SpreadRule
from tests.place_cases import make


def test_the_best_of_a_plain_problem() -> None:
    problem = make(sizes=[4, 2, 12], racks=[0, 0, 0, 1], kinds=[0, 1, 2], current=[3, 0, -1])
    best = optimum(problem)
    assert best is not None
    assert best[0] == (0, 4, 2)
    assert check(problem, best[1]) == []
    packed = optimum(replace(problem, max_nodes_used=np.array([3])))
    # Group 1 joins group 0: it is the smaller one to move.
    assert packed is not None
    assert packed[0] == (2, 3, 1)
    assert packed[1].group_nodes[1] == (3,)


def test_none_where_there_is_none() -> None:
    assert optimum(make(sizes=[8, 1], racks=[0])) is None
    problem = make(sizes=[1, 1], racks=[0, 0])
    rule = SpreadRule(rule="s", groups=(0, 1), level=1, min_domains=2)
    assert optimum(replace(problem, spread=(rule,))) is None


def test_too_large_is_said() -> None:
    with pytest.raises(ValueError, match="too large"):
        optimum(make(sizes=[1] * 12, racks=[0, 1, 2], kinds=list(range(12))), most_steps=100)
