"""Measured capacities by length."""

from pathlib import Path

import pytest

from profiles.capacity_table import read_capacity_tables
from profiles.errors import ProfileError

HEADER = "gpu,input_tokens_max,output_tokens_max,rate_rps\n"
GOOD = "a,1000,200,4\na,2000,100,5\na,4000,1000,1\nb,1000,200,9\n"


def read(folder: Path, rows: str) -> Path:
    path = folder / "legacy.csv"
    path.write_text(HEADER + rows, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [((1, 1), 4.0), ((1000, 200), 4.0), ((1001, 100), 5.0), ((1001, 101), 1.0), ((4000, 1000), 1.0), ((4001, 1), None)],
)
def test_the_smallest_covering_bucket(lengths: tuple[int, int], expected: float | None, tmp_path: Path) -> None:
    tables = read_capacity_tables(read(tmp_path, GOOD))
    assert set(tables) == {"a", "b"}
    assert tables["a"].capacity_rps(*lengths) == expected


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    forwards = read_capacity_tables(read(tmp_path, GOOD))["a"]
    backwards = read_capacity_tables(read(tmp_path, "".join(reversed(GOOD.splitlines(keepends=True)))))["a"]
    assert forwards.rate_rps.tolist() == backwards.rate_rps.tolist()
    assert not forwards.rate_rps.flags.writeable


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("a,1000,200,nan\n", "line 2, column rate_rps: must be finite"),
        ("a,1000,200,0\n", "column rate_rps: must be above 0"),
        ("a,0,200,1\n", "column input_tokens_max: must be at least 1"),
        ("a,10,2.5,1\n", "column output_tokens_max: must be a whole number"),
        ("a,10,2,1\na,10,2,3\n", "line 3, column input_tokens_max: bucket 10 x 2 on a was given before"),
    ],
)
def test_bad_tables(rows: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=says):
        read_capacity_tables(read(tmp_path, rows))
