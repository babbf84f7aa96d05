"""Small CSV files (also .gz) of numbers and names, read with every value checked; errors name file, line and column."""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from profiles.errors import ProfileError

MAX_TABLE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: its values by column, read with the checks below."""

    path: Path
    line: int
    values: dict[str, str]

    def text(self, column: str) -> str:
        """The value as a name; ProfileError when it is empty."""
        value = self.values[column].strip()
        if not value:
            raise self.fault(column, "is empty")
        return value

    def number(self, column: str, *, above: float = -math.inf, least: float = -math.inf) -> float:
        """The value as a finite number above `above` and at least `least`; ProfileError otherwise."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            raise self.fault(column, f"must be a number, not {text[:40]!r}") from None
        if not math.isfinite(value):
            raise self.fault(column, f"must be finite, not {text[:40]}")
        if value <= above or value < least:
            bound = f"above {above:g}" if value <= above else f"at least {least:g}"
            raise self.fault(column, f"must be {bound}, not {text[:40]}")
        return value

    def whole(self, column: str, *, least: int) -> int:
        """The value as a whole number of at least `least` (below 2**53); ProfileError otherwise."""
        value = self.number(column, least=least)
        if value != int(value) or value >= 2**53:
            raise self.fault(column, f"must be a whole number, not {self.text(column)[:40]!r}")
        return int(value)

    def fault(self, column: str, what: str) -> ProfileError:
        """The error for one value."""
        return ProfileError(f"{self.path}, line {self.line}, column {column}: {what}.")


def read_rows(path: Path, columns: Sequence[str], max_bytes: int = MAX_TABLE_BYTES) -> Iterator[Row]:
    """The rows of a CSV file with (at least) these columns, in order; blank lines are passed over.

    Raises ProfileError: the file is missing, unreadable, larger (unpacked) than `max_bytes`, not UTF-8, a cut .gz; a
    column is missing or named twice; a line has too few or too many values; there is no row at all.
    """
    reader = csv.reader(io.StringIO(_text(path, max_bytes), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, columns)
        found = False
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise ProfileError(f"{path}, line {reader.line_num}: {len(values)} values under {len(header)} columns.")
            found = True
            yield Row(path, reader.line_num, dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise ProfileError(f"{path}, line {reader.line_num}: {error}.") from error
    if not found:
        raise ProfileError(f"{path} has no rows under its header.")


def _check_header(path: Path, header: list[str], columns: Sequence[str]) -> None:
    if not header:
        raise ProfileError(f"{path} is empty; its first line must be {','.join(columns)}.")
    missing = [name for name in columns if name not in header]
    if missing:
        raise ProfileError(f"{path}, line 1: column {missing[0]} is missing; needed are {','.join(columns)}.")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ProfileError(f"{path}, line 1: column {twice} is named twice.")


def _text(path: Path, max_bytes: int) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            payload = file.read(max_bytes + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ProfileError(f"{path} is truncated or no gzip file.") from error
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(payload) > max_bytes:
        raise ProfileError(f"{path} holds over {max_bytes / 1e6:g} MB, which is more than such a table may have.")
    try:
        return payload.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is no text: byte {error.start} is not UTF-8.") from error
