"""Cells and requests that make no sense are refused where they are made."""

from dataclasses import replace

import numpy as np
import pytest

from planner.simulate_types import ClosedLoop, LlmCell, Requests, Router, TableCell
from tests.unit.test_simulate import CELL, TABLE, requests

ONE = np.ones(1, dtype=np.int64)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"copies": 0}, "copies"),
        ({"kv_blocks": 0}, "kv_blocks"),
        ({"max_num_batched_tokens": 3}, "max_num_batched_tokens"),
        ({"table": replace(TABLE, schedule_lag_steps=2)}, "schedule_lag_steps"),
    ],
)
def test_llm_cells(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(CELL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"batches": np.array([2, 1])}, "increase"),
        ({"batches": np.array([1])}, "row"),
        ({"router": Router.LEAST_KV}, "router"),
    ],
)
def test_table_cells(changes: dict[str, object], word: str) -> None:
    cell = TableCell(latency_s=np.ones((2, 1)), batches=np.array([1, 2]), copies=1, max_batch=2)
    with pytest.raises(ValueError, match=word):
        replace(cell, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"arrival_s": np.array([-1.0])}, "arrivals"),
        ({"arrival_s": np.array([0.0, 1.0])}, "as many"),
        ({"input_tokens": 0 * ONE}, "input"),
        ({"output_tokens": 0 * ONE}, "output"),
        ({"cached_tokens": 4 * ONE}, "cached"),
    ],
)
def test_requests(changes: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(requests((0.0, 4, 1)), **changes)  # type: ignore[arg-type]


def test_closed_loops_and_order_of_arrivals() -> None:
    with pytest.raises(ValueError, match="client"):
        ClosedLoop(start_s=np.zeros(0), input_tokens=ONE, output_tokens=ONE, cached_tokens=0 * ONE)
    with pytest.raises(ValueError, match="order"):
        requests((1.0, 4, 1), (0.5, 4, 1))


def test_types_are_what_other_modules_build() -> None:
    assert isinstance(CELL, LlmCell)
    assert isinstance(requests((0.0, 1, 1)), Requests)
    assert Router["LEAST_LOADED"] is Router.LEAST_LOADED
