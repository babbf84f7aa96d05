"""Load follows capacity, as far as shares and rules let it."""

from dataclasses import replace

import numpy as np
import pytest

from solvers.mix_balance import balance, capacity_rps
from solvers.mix_problem import Block, MixProblem, RuleRow
from tests.mix_cases import make


def three_queues() -> MixProblem:
    """Demand 0 on queues 0 and 1, demand 1 on queue 2 only; queue 1 also takes a quarter of demand 1."""
    return make(
        prices=[1.0],
        per_node=[8],
        nodes=[9],
        by_node=[False],
        rates=[4.0, 3.0],
        queues=[(0, 1, 9, [1.0, 0.0]), (0, 1, 9, [0.75, 0.25]), (0, 1, 9, [0.0, 1.0])],
        brackets=[[(1, 9, 1.0)], [(1, 1, 1.0), (2, 9, 2.0)], [(1, 9, 1.0)]],
        workloads=[0, 1],
    )


def balanced(
    problem: MixProblem, copies: list[int], unmet: list[float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    counts = np.array(copies, dtype=np.int64)
    gpus = np.array([counts.sum()], dtype=np.int64)
    flow, note = balance(problem, counts, np.array([9], dtype=np.int64), gpus, np.array(unmet))
    assert note == ""
    return flow


def test_capacity_is_that_of_the_bracket() -> None:
    assert capacity_rps(three_queues(), np.array([3, 2, 0])).tolist() == [3.0, 4.0, 0.0]


def test_one_demand_is_divided_by_capacity() -> None:
    problem = replace(three_queues(), share=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert balanced(problem, [2, 3, 4], [0.0, 0.0]) == pytest.approx([1.0, 3.0, 3.0])


def test_a_class_that_is_full_does_not_unbalance_the_others() -> None:
    """Queue 2 must carry at least 3 − 1/4 of queue 1's flow: it is the peak, and the rest is still levelled."""
    flow = balanced(three_queues(), [4, 2, 3], [0.0, 0.0])
    utilisation = flow / np.array([4.0, 4.0, 3.0])
    assert flow[0] + 0.75 * flow[1] == pytest.approx(4.0)
    assert 0.25 * flow[1] + flow[2] == pytest.approx(3.0)
    # The peak, queue 2, is lowered as far as queue 1 can help before its own utilisation meets it.
    assert utilisation[1] == pytest.approx(utilisation[2])
    assert utilisation[0] < utilisation[1]


def test_rules_on_flows_come_first() -> None:
    problem = replace(three_queues(), share=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    rule = RuleRow(rule="little", terms=((Block.FLOW_RPS, 1, 1.0),), sense="<=", bound=2.5)
    flow = balanced(replace(problem, rules=(rule,)), [2, 3, 4], [0.0, 0.0])
    assert flow == pytest.approx([1.5, 2.5, 3.0])


def test_unmet_demand_stays_unmet() -> None:
    problem = replace(three_queues(), share=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert balanced(problem, [2, 1, 4], [1.0, 3.0]) == pytest.approx([2.0, 1.0, 0.0])


def test_impossible_flows_are_said() -> None:
    problem = replace(three_queues(), share=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    rule = RuleRow(rule="none", terms=((Block.FLOW_RPS, 2, 1.0),), sense="<=", bound=1.0)
    copies = np.array([2, 3, 4], dtype=np.int64)
    _, note = balance(replace(problem, rules=(rule,)), copies, np.array([9]), np.array([9]), np.zeros(2))
    assert "not balanced" in note
