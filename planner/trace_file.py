"""Request traces: CSV (also gzipped) with the columns arrival_s, input_tokens, output_tokens."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiles.errors import PlanningError

MOST_BYTES = 200_000_000
MOST_ROWS = 2_000_000
MOST_TOKENS = 10_000_000


class TraceError(PlanningError):
    """A trace cannot be used; the message names file, line and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in order of arrival from time 0; lengths are 1 where the file has none. `span_s` > 0."""

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    span_s: float
    has_tokens: bool


def read_trace(path: Path) -> Trace:
    """The trace of a file. TraceError for files that are missing, truncated, too large, unsorted or malformed."""
    lines = _lines(path)
    header = [h.strip() for h in next(lines, [])]
    if not header or header[0] != "arrival_s":
        raise TraceError(f"{path}:1: the first column must be arrival_s (then input_tokens,output_tokens).")
    has_tokens = header[1:3] == ["input_tokens", "output_tokens"]
    if header[1:] and not has_tokens:
        raise TraceError(f"{path}:1: after arrival_s come input_tokens,output_tokens, not {','.join(header[1:])[:80]}.")
    rows = []
    for line, row in enumerate(lines, start=2):
        if len(row) != len(header):
            raise TraceError(f"{path}:{line}: {len(row)} fields where the header has {len(header)}: is it truncated?")
        rows.append(row)
        if len(rows) > MOST_ROWS:
            raise TraceError(f"{path}: more than {MOST_ROWS:,} requests; take a part of it.")
    if len(rows) < 2:
        raise TraceError(f"{path}: a trace needs at least 2 requests.")
    return _checked(path, _numbers(path, header, rows), has_tokens)


def _lines(path: Path) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(_text(path)))
    try:
        yield from reader
    except csv.Error as error:
        raise TraceError(f"{path}:{reader.line_num}: is no CSV: {error}.") from error


def _text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                raw = stream.read(MOST_BYTES + 1)
        else:
            with path.open("rb") as stream:
                raw = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TraceError(f"{path} cannot be read: {reason}.") from error
    if len(raw) > MOST_BYTES:
        raise TraceError(f"{path} holds more than {MOST_BYTES // 1_000_000} MB.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} is not text (UTF-8).") from error


def _numbers(path: Path, header: list[str], rows: list[list[str]]) -> NDArray[np.float64]:
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        for line, row in enumerate(rows, start=2):
            for name, cell in zip(header, row, strict=True):
                try:
                    float(cell)
                except ValueError as error:
                    raise TraceError(f"{path}:{line}: {name}: '{cell[:40]}' is not a number.") from error
        raise


def _checked(path: Path, values: NDArray[np.float64], has_tokens: bool) -> Trace:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise TraceError(f"{path}:{bad[0] + 2}: not a finite number.")
    arrival = values[:, 0]
    early = np.flatnonzero((np.diff(arrival) < 0) | (arrival[1:] < 0))
    if early.size or arrival[0] < 0:
        line = int(early[0]) + 3 if early.size else 2
        raise TraceError(f"{path}:{line}: arrival_s must not be negative and must not fall; sort the file by it.")
    tokens = values[:, 1:3] if has_tokens else np.ones((arrival.size, 2))
    wrong = np.flatnonzero(((tokens < 1) | (tokens > MOST_TOKENS) | (tokens != np.floor(tokens))).any(axis=1))
    if wrong.size:
        raise TraceError(f"{path}:{wrong[0] + 2}: tokens must be whole numbers from 1 to {MOST_TOKENS:,}.")
    span = float(arrival[-1] - arrival[0]) * arrival.size / (arrival.size - 1)
    if span <= 0:
        raise TraceError(f"{path}: all requests arrive at one instant; a rate cannot be told from that.")
    return Trace(
        arrival_s=arrival - arrival[0],
        input_tokens=tokens[:, 0].astype(np.int64),
        output_tokens=tokens[:, 1].astype(np.int64),
        span_s=span,
        has_tokens=has_tokens,
    )
