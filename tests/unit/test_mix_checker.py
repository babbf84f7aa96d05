"""The checker rejects every kind of violation, each made by hand on a solution that it accepts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solvers.mix_checker import check
from solvers.mix_milp import solve
from solvers.mix_problem import Block, MixProblem, MixSolution, RuleRow, SurviveRow
from solvers.stop import Stop
from tests.mix_cases import make, two_pools


def solved(problem: MixProblem) -> MixSolution:
    result = solve(problem, Stop(), 1)
    assert result.solution is not None
    assert check(problem, result.solution) == []
    return result.solution


def changed(solution: MixSolution, field: str, index: int, value: float) -> MixSolution:
    values = getattr(solution, field).copy()
    values[index] = value
    change: dict[str, Any] = {field: values}
    return replace(solution, **change)


@pytest.mark.parametrize(
    ("field", "index", "value", "complaint"),
    [
        ("nodes", 0, 3, "3 nodes of 2"),
        ("nodes", 1, 2, "6 GPUs are paid for on 2 nodes"),
        ("paid_gpus", 0, 3, "buys whole nodes"),
        ("paid_gpus", 1, 5, "take 6 GPUs, 5 are paid for"),
        ("copies", 0, 5, "queue 0 has 5 copies of at most 4"),
        ("copies", 0, 1, "through a capacity of 2"),
        ("copies", 1, 1, "take 7 GPUs, 6 are paid for"),
        ("flow_rps", 0, 5.0, "demand 0: 5 served and 0 unmet of 6"),
        ("unmet_rps", 0, 1.0, "demand 0: 1 requests/s are unmet"),
        ("flow_rps", 0, np.nan, "flow_rps has a value that is negative or not finite"),
        ("copies", 0, -1, "copies has a value that is negative"),
    ],
)
def test_a_broken_number_is_named(field: str, index: int, value: float, complaint: str) -> None:
    problem = two_pools()
    assert any(complaint in found for found in check(problem, changed(solved(problem), field, index, value)))


def test_wrong_cost_and_stage_values_are_named() -> None:
    problem = two_pools()
    solution = solved(problem)
    assert "cost 1 is not 14 USD per hour" in check(problem, replace(solution, cost_usd_per_hour=1.0))
    assert "stage cost is 3, not 14" in check(problem, replace(solution, stage_values=(("cost", 3.0),)))
    assert "stage luck is unknown" in check(problem, replace(solution, stage_values=(("luck", 3.0),)))


def test_wrong_shapes_and_fractions_are_named() -> None:
    problem = two_pools()
    solution = solved(problem)
    assert check(problem, replace(solution, copies=np.zeros(2, dtype=np.int64))) == ["copies has shape (2,), not (3,)"]
    half: Any = solution.copies.astype(np.float64)
    assert check(problem, replace(solution, copies=half)) == ["copies is not whole"]


def test_copies_between_brackets_are_named() -> None:
    problem = two_pools()
    gap = replace(problem, bracket_low=np.array([1, 3, 1, 1]))
    assert "queue 0: no bracket holds 2 copies" in check(gap, solved(problem))


@pytest.mark.parametrize(
    ("sense", "bound"),
    [("<=", 1.0), (">=", 3.0), ("==", 3.0)],
)
def test_a_broken_rule_is_named(sense: Any, bound: float) -> None:
    problem = two_pools()
    rule = RuleRow(rule="copies of chat", terms=((Block.COPIES, 0, 1.0),), sense=sense, bound=bound)
    found = check(replace(problem, rules=(rule,)), solved(problem))
    assert found == [f"rule copies of chat: 2 is not {sense} {bound:g}"]


@pytest.mark.parametrize("block", list(Block))
def test_rules_read_every_block(block: Block) -> None:
    problem = two_pools()
    rule = RuleRow(rule="none of it", terms=((block, 0, 1.0),), sense="<=", bound=0.0)
    assert len(check(replace(problem, rules=(rule,)), solved(problem))) == 1


def spread_problem() -> MixProblem:
    """Four copies of 1 request/s for 2 requests/s, where half must survive the loss of one of two racks."""
    problem = make(
        prices=[1.0],
        per_node=[1],
        nodes=[6],
        by_node=[False],
        rates=[2.0],
        queues=[(0, 1, 6, [1.0])],
        brackets=[[(1, 6, 1.0)]],
    )
    rack = SurviveRow(rule="rack", workload=0, fraction=1.0, kind="domain", pool_domains=np.array([2]))
    return replace(problem, survive=(rack,))


def test_a_loss_that_is_not_survived_is_named() -> None:
    problem = spread_problem()
    solution = solved(problem)
    assert solution.copies[0] == 4
    assert solution.copies_per_domain_max[0] == 2
    loose = changed(solution, "copies_per_domain_max", 0, 3)
    assert check(problem, loose) == ["rule rack: too little is left after the loss of a domain"]
    tight = changed(solution, "copies_per_domain_max", 0, 1)
    assert check(problem, tight) == ["queue 0: 4 copies in 2 domains of at most 1"]
    zone = SurviveRow(rule="zone", workload=0, fraction=0.1, kind="zone", pool_domains=np.array([1]), lost_pools=(0,))
    found = check(replace(problem, survive=(zone,)), solution)
    assert found == ["rule zone: too little is left after the loss of a zone"]


def test_places_on_nodes_are_counted() -> None:
    """Three copies of 3 GPUs do not fit two nodes of 4, though 9 GPUs are there when 12 are paid for on three."""
    problem = make(
        prices=[1.0],
        per_node=[4],
        nodes=[3],
        by_node=[True],
        rates=[3.0],
        queues=[(0, 3, 3, [1.0])],
        brackets=[[(1, 3, 1.0)]],
    )
    solution = solved(problem)
    assert solution.nodes[0] == 3
    two = replace(changed(changed(solution, "nodes", 0, 2), "paid_gpus", 0, 8), cost_usd_per_hour=8.0)
    assert "pool 0: 3 places of 3 GPUs on 2 nodes of 4" in check(problem, two)


def test_a_copy_larger_than_a_node_keeps_its_nodes() -> None:
    """12 GPUs on nodes of 8 take two whole nodes, so a copy of 4 needs a third."""
    problem = make(
        prices=[1.0],
        per_node=[8],
        nodes=[3],
        by_node=[True],
        rates=[1.0, 1.0],
        queues=[(0, 12, 1, [1.0, 0.0]), (0, 4, 1, [0.0, 1.0])],
        brackets=[[(1, 1, 1.0)], [(1, 1, 1.0)]],
    )
    solution = solved(problem)
    assert solution.nodes[0] == 3
    two = replace(changed(changed(solution, "nodes", 0, 2), "paid_gpus", 0, 16), cost_usd_per_hour=16.0)
    assert "pool 0: 1 places of 4 GPUs on 0 nodes of 8" in check(problem, two)
