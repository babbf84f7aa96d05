"""Fit rows by hand; `tests/reference/test_fit_rows_exact.py` compares them with trying every packing."""

import pytest

from solvers.fit_rows import broken_row, fit_rows_hold


def test_rows_by_hand() -> None:
    assert fit_rows_hold([4, 4, 2, 2, 2, 2], [8, 8])
    assert not fit_rows_hold([4, 4, 4], [7, 7])
    assert broken_row([4, 4, 4], [7, 7]) == 4
    assert broken_row([1, 1, 1], [2]) == 1
    assert fit_rows_hold([], [])
    assert fit_rows_hold([], [0, 3])
    assert not fit_rows_hold([1], [])


def test_sizes_that_are_no_powers_of_two_may_pass_without_fitting() -> None:
    # 4 and 5 do not share 8 GPUs, and 3 take neither; cut into blocks of 4, 3, 2 or 1 there is room.
    assert fit_rows_hold([4, 5], [3, 8])


@pytest.mark.parametrize(
    ("sizes", "free", "word"),
    [([0], [1], "sizes"), ([1], [-1], "free"), ([1.5], [1], "sizes"), ([1], [float("nan")], "free")],
)
def test_bad_numbers_are_named(sizes: list[int], free: list[int], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        fit_rows_hold(sizes, free)
