"""Every malformed mix problem is refused with the name of the field."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solvers.mix_milp import solve
from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow
from solvers.mix_validate import validate
from solvers.stop import Stop
from tests.mix_cases import two_pools

NUMBERS = [
    "pool_price_usd_per_gpu_hour",
    "workload_tokens_per_request",
    "demand_rate_rps",
    "bracket_capacity_rps",
    "share",
]
COUNTS = [
    "pool_gpus_per_node",
    "pool_max_nodes",
    "workload_priority",
    "demand_workload",
    "queue_pool",
    "queue_gpus_per_copy",
    "queue_max_copies",
    "bracket_queue",
    "bracket_low",
    "bracket_high",
]
FLAGS = ["pool_buys_nodes", "workload_best_effort"]


def with_field(field: str, values: Any) -> MixProblem:
    change: dict[str, Any] = {field: values}
    return replace(two_pools(), **change)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0])
@pytest.mark.parametrize("field", NUMBERS)
def test_bad_numbers(field: str, bad: float) -> None:
    values = getattr(two_pools(), field).copy()
    values.flat[0] = bad
    with pytest.raises(ValueError, match=field):
        validate(with_field(field, values))


@pytest.mark.parametrize("field", COUNTS)
def test_bad_counts(field: str) -> None:
    values = getattr(two_pools(), field)
    negative = values.copy()
    negative[0] = -1
    with pytest.raises(ValueError, match=field):
        validate(with_field(field, negative))
    with pytest.raises(ValueError, match=field):
        validate(with_field(field, values.astype(np.float64)))


@pytest.mark.parametrize("field", [*NUMBERS, *COUNTS, *FLAGS])
def test_bad_shapes(field: str) -> None:
    values = getattr(two_pools(), field)
    with pytest.raises(ValueError, match=r"shape|expected|beyond"):
        validate(with_field(field, np.concatenate((values, values))))


@pytest.mark.parametrize("field", FLAGS)
def test_bad_flags(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        validate(with_field(field, getattr(two_pools(), field).astype(np.int64)))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("queue_pool", np.array([0, 1, 2])),
        ("demand_workload", np.array([0, 9])),
        ("bracket_queue", np.array([0, 0, 2, 1])),
        ("bracket_low", np.array([1, 1, 1, 1])),
        ("bracket_high", np.array([1, 1, 6, 3])),
        ("pool_gpus_per_node", np.array([0, 2])),
        ("queue_gpus_per_copy", np.array([0, 1, 2])),
        ("share", np.array([[1.0, 0.5], [1.0, 0.0], [0.0, 1.0]])),
    ],
)
def test_numbers_that_contradict_each_other(field: str, values: Any) -> None:
    with pytest.raises(ValueError, match=r"bracket|" + field):
        validate(with_field(field, values))


@pytest.mark.parametrize(
    ("terms", "sense", "bound"),
    [
        (((Block.COPIES, 3, 1.0),), "<=", 1.0),
        (((Block.NODES, 2, 1.0),), "<=", 1.0),
        (((Block.COPIES, -1, 1.0),), "<=", 1.0),
        (((Block.COPIES, 0, np.nan),), "<=", 1.0),
        (((Block.COPIES, 0, 1.0),), "<=", np.inf),
        (((Block.COPIES, 0, 1.0),), "<", 1.0),
    ],
)
def test_bad_rules(terms: Any, sense: Any, bound: float) -> None:
    rule = RuleRow(rule="mine", terms=terms, sense=sense, bound=bound)
    with pytest.raises(ValueError, match="mine"):
        validate(replace(two_pools(), rules=(rule,)))


@pytest.mark.parametrize(
    "change",
    [
        {"workload": 2},
        {"fraction": 1.5},
        {"fraction": float("nan")},
        {"kind": "city"},
        {"pool_domains": np.array([1])},
        {"pool_domains": np.array([-1, 1])},
        {"lost_pools": (2,)},
    ],
)
def test_bad_survive_rows(change: dict[str, Any]) -> None:
    row = SurviveRow(rule="mine", workload=0, fraction=0.5, kind="domain", pool_domains=np.array([2, 2]))
    with pytest.raises(ValueError, match="mine"):
        validate(replace(two_pools(), survive=(replace(row, **change),)))


def test_the_solver_validates() -> None:
    with pytest.raises(ValueError, match="demand_rate_rps"):
        solve(with_field("demand_rate_rps", np.array([np.nan, 1.0])), Stop(), 1)


def test_a_sound_problem_passes() -> None:
    validate(two_pools())
