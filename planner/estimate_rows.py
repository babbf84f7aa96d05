"""`estimate --from`: a CSV of deployments in, the same rows with their estimates out."""

import csv
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from planner.estimate import Estimate, Estimator
from planner.files import atomic_write_text, check_writable
from planner.question import Question
from profiles.calibration import Calibration
from profiles.errors import PlanningError

REQUIRED = ("model", "gpu", "tp", "pp", "ep", "quantization", "input_tokens", "output_tokens")
OPTIONAL = (
    "concurrency",
    "rate_rps",
    "attention_dp",
    "moe_tp",
    "kv_dtype",
    "max_num_seqs",
    "max_num_batched_tokens",
    "gpu_memory_utilization",
    "num_requests",
    "length_low_fraction",
    "start",
)
ANSWERS = (
    "status",
    "reason",
    "ttft_ms",
    "tpot_ms",
    "ttft_p99_ms",
    "tpot_p99_ms",
    "throughput_tokens_per_s",
    "kv_tokens",
    "evidence",
)
MOST_BYTES = 50_000_000


class RowError(PlanningError):
    """A row, or the header, of an estimates file is malformed: the message names file, line and column."""


def estimate_file(
    source: Path, target: Path, tell: Callable[[int, int], None], calibration: Calibration | None = None
) -> tuple[int, int]:
    """Answer every row of `source` into `target`, written whole; (answered, refused). RowError for a malformed file."""
    check_writable(target)
    header, rows = read_rows(source)
    estimator = Estimator(calibration)
    answers = []
    for position, (line, row) in enumerate(rows):
        answers.append(_answer(estimator, source, line, row))
        tell(position + 1, len(rows))
    out = StringIO()
    writer = csv.DictWriter(out, fieldnames=[*header, *(a for a in ANSWERS if a not in header)], lineterminator="\n")
    writer.writeheader()
    for (_, row), answer in zip(rows, answers, strict=True):
        writer.writerow({**row, **answer})
    atomic_write_text(target, out.getvalue())
    refused = sum(1 for answer in answers if answer["status"] != "ok")
    return len(rows) - refused, refused


def read_rows(source: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """(header, rows with the line each ends in) of an estimates file; RowError when it is malformed."""
    try:
        if source.stat().st_size > MOST_BYTES:
            raise RowError(f"{source} is larger than {MOST_BYTES // 1_000_000} MB.")
        text = source.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise RowError(f"{source} cannot be read: {error}.") from error
    reader = csv.DictReader(StringIO(text))
    try:
        header = [h.strip() for h in reader.fieldnames or []]
        _check_header(header, source)
        return header, list(_rows(reader, header, source))
    except csv.Error as error:
        raise RowError(f"{source}:{reader.line_num}: the row cannot be read: {error}.") from error


def _check_header(header: list[str], source: Path) -> None:
    missing = [c for c in REQUIRED if c not in header]
    if missing:
        raise RowError(f"{source}:1: the column {missing[0]} is missing; needed are {', '.join(REQUIRED)}.")
    twice = [c for position, c in enumerate(header) if c in header[:position]]
    if twice:
        raise RowError(f"{source}:1: the column {twice[0][:60]} is given twice.")


def _rows(reader: "csv.DictReader[str]", header: list[str], source: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for row in reader:
        if None in row or any(value is None for value in row.values()):
            raise RowError(f"{source}:{reader.line_num}: the row has not as many fields as the header.")
        yield reader.line_num, dict(zip(header, (str(v).strip() for v in row.values()), strict=True))


def _answer(estimator: Estimator, source: Path, line: int, row: Mapping[str, str]) -> dict[str, Any]:
    question = question_of(source, line, row)
    try:
        return _said(estimator.answer(question))
    except PlanningError as error:
        return _said(Estimate(status="refused", reason=str(error)))


def question_of(source: Path, line: int, row: Mapping[str, str]) -> Question:
    """The question of a row; RowError names line and column when it is malformed."""
    concurrency = _whole(source, line, row, "concurrency", None)
    rate = number_of(source, line, row, "rate_rps")
    if (concurrency is None) == (rate is None):
        raise RowError(f"{source}:{line}: exactly one of concurrency and rate_rps must be given.")
    start = row.get("start") or "burst"
    if start not in ("burst", "steady"):
        raise RowError(f"{source}:{line}: start: '{start}' is neither burst nor steady.")
    fraction = _fraction(source, line, row, "length_low_fraction")
    return Question(
        model=row["model"],
        gpu=row["gpu"],
        input_tokens=_whole(source, line, row, "input_tokens", None) or _absent(source, line, "input_tokens"),
        output_tokens=_whole(source, line, row, "output_tokens", None) or _absent(source, line, "output_tokens"),
        tp=_whole(source, line, row, "tp", 1) or 1,
        pp=_whole(source, line, row, "pp", 1) or 1,
        ep=_whole(source, line, row, "ep", 1) or 1,
        attention_dp=_whole(source, line, row, "attention_dp", 1) or 1,
        moe_tp=_whole(source, line, row, "moe_tp", None),
        quantization=row["quantization"] or None,
        kv_dtype=row.get("kv_dtype") or None,
        concurrency=concurrency,
        rate_rps=rate,
        max_num_seqs=_whole(source, line, row, "max_num_seqs", None),
        max_num_batched_tokens=_whole(source, line, row, "max_num_batched_tokens", None),
        gpu_memory_utilization=_fraction(source, line, row, "gpu_memory_utilization"),
        num_requests=_whole(source, line, row, "num_requests", None),
        length_low_fraction=1.0 if fraction is None else fraction,
        start="steady" if start == "steady" else "burst",
    )


def _absent(source: Path, line: int, column: str) -> int:
    raise RowError(f"{source}:{line}: {column} is empty.")


def number_of(source: Path, line: int, row: Mapping[str, str], column: str) -> float | None:
    """A positive number of a row, None where it is empty; RowError when it is something else."""
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise RowError(f"{source}:{line}: {column}: '{text}' is not a number.") from error
    if not 0 < value < 1e9:
        raise RowError(f"{source}:{line}: {column}: {text} is not a positive number.")
    return value


def _fraction(source: Path, line: int, row: Mapping[str, str], column: str) -> float | None:
    value = number_of(source, line, row, column)
    if value is not None and value > 1:
        raise RowError(f"{source}:{line}: {column}: {value:g} is above 1.")
    return value


def _whole(source: Path, line: int, row: Mapping[str, str], column: str, default: int | None) -> int | None:
    value = number_of(source, line, row, column)
    if value is None:
        return default
    if value != int(value):
        raise RowError(f"{source}:{line}: {column}: {value:g} is not a whole number.")
    return int(value)


def _said(estimate: Estimate) -> dict[str, Any]:
    ttft, tpot = estimate.ttft_ms, estimate.tpot_ms
    return {
        "status": estimate.status,
        "reason": estimate.reason,
        "ttft_ms": ttft.mean if ttft else "",
        "tpot_ms": tpot.mean if tpot else "",
        "ttft_p99_ms": ttft.p99 if ttft else "",
        "tpot_p99_ms": tpot.p99 if tpot else "",
        "throughput_tokens_per_s": _rounded(estimate.throughput_tokens_per_s),
        "kv_tokens": "" if estimate.kv_tokens is None else estimate.kv_tokens,
        "evidence": estimate.evidence.headline if estimate.evidence else "",
    }


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 3)
