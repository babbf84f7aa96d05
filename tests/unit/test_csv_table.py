"""Reading small tables, and refusing bad ones with file, line and column."""

import gzip
from pathlib import Path

import pytest

from profiles.csv_table import read_rows
from profiles.errors import ProfileError

COLUMNS = ("name", "count", "share")


def table(folder: Path, payload: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(payload.encode() if isinstance(payload, str) else payload)
    return path


def test_rows_in_order_with_other_columns_and_blank_lines(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufeffshare,name,count,more\n0.5,a,1,x\n\n1,b,2,y\n")
    rows = [(r.text("name"), r.whole("count", least=0), r.number("share")) for r in read_rows(path, COLUMNS)]
    assert rows == [("a", 1, 0.5), ("b", 2, 1.0)]


def test_a_packed_table(tmp_path: Path) -> None:
    path = table(tmp_path, gzip.compress(b"name,count,share\na,1,2\n"), "t.csv.gz")
    assert len(list(read_rows(path, COLUMNS))) == 1


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ("", "is empty"),
        ("name,count\na,1\n", "column share is missing"),
        ("name,count,share,name\na,1,2,b\n", "column name is named twice"),
        ("name,count,share\n", "has no rows"),
        ("name,count,share\na,1\n", "line 2: 2 values under 3 columns"),
        ('name,count,share\n"a,1,2\n', "line 2"),
        (b"name,count,share\n\xff,1,2\n", "is not UTF-8"),
    ],
)
def test_bad_files(payload: str | bytes, says: str, tmp_path: Path) -> None:
    path = table(tmp_path, payload)
    with pytest.raises(ProfileError, match=says) as caught:
        list(read_rows(path, COLUMNS))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "", "one", "-1"])
def test_bad_numbers_name_line_and_column(value: str, tmp_path: Path) -> None:
    path = table(tmp_path, f"name,count,share\na,1,1\nb,1,{value}\n")
    with pytest.raises(ProfileError, match="line 3, column share: "):
        [row.number("share", least=0) for row in read_rows(path, COLUMNS)]


@pytest.mark.parametrize("value", ["1.5", "0", "1e300", "nan"])
def test_bad_counts(value: str, tmp_path: Path) -> None:
    path = table(tmp_path, f"name,count,share\na,{value},1\n")
    with pytest.raises(ProfileError, match="line 2, column count: "):
        [row.whole("count", least=1) for row in read_rows(path, COLUMNS)]


def test_missing_large_and_truncated_files(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        list(read_rows(tmp_path / "none.csv", COLUMNS))
    with pytest.raises(ProfileError, match="over 4 MB"):
        list(read_rows(table(tmp_path, b"a" * 10_000_000), COLUMNS))
    packed = gzip.compress(b"name,count,share\n" + b"a,1,2\n" * 1000)
    with pytest.raises(ProfileError, match="truncated"):
        list(read_rows(table(tmp_path, packed[:-20], "cut.csv.gz"), COLUMNS))
    with pytest.raises(ProfileError, match="truncated or no gzip"):
        list(read_rows(table(tmp_path, b"name,count,share\n", "plain.csv.gz"), COLUMNS))
    with pytest.raises(ProfileError, match="over 4 MB"):
        list(read_rows(table(tmp_path, gzip.compress(b"0" * 50_000_000), "bomb.csv.gz"), COLUMNS))
