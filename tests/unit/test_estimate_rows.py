"""`estimate --from`: every row answered in its place, or the file refused with the line that is wrong."""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.estimate import Estimator
from planner.estimate_rows import ANSWERS, MOST_BYTES, OPTIONAL, REQUIRED, RowError, estimate_file
from planner.files import OutputError
from planner.question import Question

ROW = {
    "model": "qwen3-0.6b",
    "gpu": "l4-24gb",
    "tp": "1",
    "pp": "1",
    "ep": "1",
    "quantization": "",
    "input_tokens": "200",
    "output_tokens": "20",
    "concurrency": "2",
}
QUESTION = Question(model="qwen3-0.6b", gpu="l4-24gb", input_tokens=200, output_tokens=20, concurrency=2)


def written(folder: Path, *rows: Mapping[str, str]) -> Path:
    """A CSV file of these rows, with all columns that any of them has."""
    path = folder / "rows.csv"
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def answered(folder: Path, *rows: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows that come out for these."""
    out = folder / "out.csv"
    estimate_file(written(folder, *rows), out, lambda _done, _total: None)
    with out.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_rows_come_out_in_their_order_with_what_they_asked(tmp_path: Path) -> None:
    asked = [ROW | {"input_tokens": str(n), "note": f"row {n}, with a comma"} for n in (50, 400, 100)]
    found = answered(tmp_path, *asked)
    assert list(found[0]) == [*asked[0], *ANSWERS]
    for row, before in zip(found, asked, strict=True):
        assert {name: row[name] for name in before} == before
        assert row["status"] == "ok" and row["reason"] == ""
    ttft = [float(row["ttft_ms"]) for row in found]
    assert ttft[0] < ttft[2] < ttft[1]


def test_a_row_says_what_one_estimate_says(tmp_path: Path) -> None:
    one = Estimator().answer(QUESTION)
    assert one.ttft_ms is not None and one.tpot_ms is not None and one.evidence is not None
    assert one.throughput_tokens_per_s is not None
    (row,) = answered(tmp_path, ROW)
    assert float(row["ttft_ms"]) == one.ttft_ms.mean and float(row["ttft_p99_ms"]) == one.ttft_ms.p99
    assert float(row["tpot_ms"]) == one.tpot_ms.mean and float(row["tpot_p99_ms"]) == one.tpot_ms.p99
    assert float(row["throughput_tokens_per_s"]) == pytest.approx(one.throughput_tokens_per_s, abs=5e-4)
    assert row["kv_tokens"] == str(one.kv_tokens) and row["evidence"] == one.evidence.headline


OPTIONS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "rate_rps": ({"rate_rps": "3.5", "concurrency": ""}, {"rate_rps": 3.5, "concurrency": None}),
    "attention_dp": (
        {"attention_dp": "2", "ep": "2", "model": "gpt-oss-20b", "gpu": "h100-sxm-80gb"},
        {"attention_dp": 2, "ep": 2, "model": "gpt-oss-20b", "gpu": "h100-sxm-80gb"},
    ),
    "max_num_seqs": ({"max_num_seqs": "1"}, {"max_num_seqs": 1}),
    "max_num_batched_tokens": ({"max_num_batched_tokens": "64"}, {"max_num_batched_tokens": 64}),
    "gpu_memory_utilization": ({"gpu_memory_utilization": "0.5"}, {"gpu_memory_utilization": 0.5}),
    "num_requests": ({"num_requests": "7"}, {"num_requests": 7}),
    "length_low_fraction": ({"length_low_fraction": "0.25"}, {"length_low_fraction": 0.25}),
    "start": ({"start": "steady", "concurrency": "8"}, {"start": "steady", "concurrency": 8}),
    "concurrency": ({"concurrency": "16"}, {"concurrency": 16}),
    "moe_tp": (
        {"moe_tp": "2", "model": "gpt-oss-20b", "gpu": "h100-sxm-80gb"},
        {"moe_tp": 2, "model": "gpt-oss-20b", "gpu": "h100-sxm-80gb"},
    ),
    "kv_dtype": (
        {"kv_dtype": "fp8", "gpu": "h100-sxm-80gb", "input_tokens": "4000", "concurrency": "64"},
        {"kv_dtype": "fp8", "gpu": "h100-sxm-80gb", "input_tokens": 4000, "concurrency": 64},
    ),
}


def test_every_column_that_may_be_given_is_tried_here() -> None:
    assert set(OPTIONS) == set(OPTIONAL)


@pytest.mark.parametrize("column", sorted(OPTIONS))
def test_a_column_is_handed_on(column: str, tmp_path: Path) -> None:
    fields, same = OPTIONS[column]
    one = Estimator().answer(replace(QUESTION, **same))
    (row,) = answered(tmp_path, ROW | fields)
    assert one.ttft_ms is not None and one.throughput_tokens_per_s is not None
    assert float(row["ttft_ms"]) == one.ttft_ms.mean
    assert float(row["throughput_tokens_per_s"]) == pytest.approx(one.throughput_tokens_per_s, abs=5e-4)


def test_columns_that_are_left_out_or_empty_take_their_defaults(tmp_path: Path) -> None:
    bare, empty = answered(tmp_path, ROW), answered(tmp_path, ROW | dict.fromkeys(set(OPTIONAL) - {"concurrency"}, ""))
    assert [bare[0][name] for name in ANSWERS] == [empty[0][name] for name in ANSWERS]


REFUSED = {
    "too large": ({"model": "llama-3.1-70b"}, "does not fit"),
    "unknown model": ({"model": "qwen3-0.7b"}, "'qwen3-0.7b' is not in the catalogue of models. Maybe you meant"),
    "unknown gpu": ({"gpu": "l4"}, "'l4' is not in the catalogue"),
    "unknown quantization": ({"quantization": "int3"}, "quantization 'int3' is not known"),
    "split that does not divide": ({"tp": "3"}, ""),
    "unknown kv_dtype": ({"kv_dtype": "int8"}, "kv_dtype 'int8' is not known. Known: "),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_deployment_that_cannot_be_is_refused_and_the_others_are_answered(name: str, tmp_path: Path) -> None:
    fields, words = REFUSED[name]
    path, out = written(tmp_path, ROW, ROW | fields, ROW), tmp_path / "out.csv"
    assert estimate_file(path, out, lambda _done, _total: None) == (2, 1)
    with out.open(newline="", encoding="utf-8") as stream:
        before, row, after = csv.DictReader(stream)
    assert row["status"] == "refused" and row["reason"] and words in row["reason"]
    assert all(row[name] == "" for name in ANSWERS if name not in ("status", "reason"))
    assert before["status"] == after["status"] == "ok"


FAULTS = {
    "no load": ({"concurrency": ""}, "exactly one of concurrency and rate_rps"),
    "two loads": ({"rate_rps": "1"}, "exactly one of concurrency and rate_rps"),
    "not a number": ({"tp": "two"}, "tp: 'two' is not a number"),
    "nan": ({"input_tokens": "nan"}, "input_tokens: nan is not a positive number"),
    "infinite": ({"output_tokens": "inf"}, "output_tokens: inf is not a positive number"),
    "negative": ({"pp": "-1"}, "pp: -1 is not a positive number"),
    "zero": ({"ep": "0"}, "ep: 0 is not a positive number"),
    "huge": ({"concurrency": "1e308"}, "concurrency: 1e308 is not a positive number"),
    "half": ({"concurrency": "2.5"}, "concurrency: 2.5 is not a whole number"),
    "no tokens": ({"input_tokens": ""}, "input_tokens is empty"),
    "no output": ({"output_tokens": " "}, "output_tokens is empty"),
    "unknown start": ({"start": "slow"}, "start: 'slow' is neither burst nor steady"),
    "fraction above one": ({"length_low_fraction": "1.5"}, "length_low_fraction: 1.5 is above 1"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_row_that_is_wrong_is_named_with_its_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    fields, words = FAULTS[name]
    path, out = written(tmp_path, ROW, ROW | fields), tmp_path / "out.csv"
    with pytest.raises(RowError) as caught:
        estimate_file(path, out, lambda _done, _total: None)
    assert str(caught.value).startswith(f"{path}:3: ") and words in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("column", REQUIRED)
def test_a_column_that_is_missing_is_named(column: str, tmp_path: Path) -> None:
    path = written(tmp_path, {name: value for name, value in ROW.items() if name != column})
    with pytest.raises(RowError, match=f"rows.csv:1: the column {column} is missing"):
        estimate_file(path, tmp_path / "out.csv", lambda _done, _total: None)


HEAD = ",".join(ROW) + "\n"
LINE = ",".join(ROW.values()) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "rows.csv:1: the column model is missing"),
        (HEAD + LINE + "qwen3-0.6b,l4-24gb\n", "rows.csv:3: the row has not as many fields as the header"),
        (HEAD + LINE[:-1] + ",1\n", "rows.csv:2: the row has not as many fields as the header"),
        (HEAD[:-1] + ",tp\n" + LINE[:-1] + ",2\n", "rows.csv:1: the column tp is given twice"),
        (HEAD + '"' + "x" * 200_000, "rows.csv:1: the row cannot be read: field larger"),
    ],
)
def test_a_file_that_is_no_table_is_refused(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RowError) as caught:
        estimate_file(path, tmp_path / "out.csv", lambda _done, _total: None)
    assert words in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    latin, huge = tmp_path / "latin.csv", tmp_path / "huge.csv"
    latin.write_bytes(HEAD.encode() + "größe".encode("latin-1"))
    with huge.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    for path, words in ((latin, "cannot be read"), (huge, "larger than 50 MB"), (tmp_path, "cannot be read")):
        with pytest.raises(RowError, match=words) as caught:
            estimate_file(path, tmp_path / "out.csv", lambda _done, _total: None)
        assert str(caught.value).startswith(str(path))


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        estimate_file(written(tmp_path, ROW), tmp_path / "none" / "out.csv", lambda _done, _total: None)


def test_a_target_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    told: list[int] = []
    with pytest.raises(OutputError):
        estimate_file(written(tmp_path, ROW), tmp_path / "none" / "out.csv", lambda done, _total: told.append(done))
    assert told == []


def test_spaces_and_a_byte_order_mark_of_a_spreadsheet_are_no_fault(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    text = "\ufeff" + HEAD.replace(",", " , ") + LINE.replace(",", " , ")
    path.write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    assert estimate_file(path, out, lambda _done, _total: None) == (1, 0)


def test_rows_of_an_earlier_answer_are_answered_anew_in_the_same_columns(tmp_path: Path) -> None:
    (first,) = answered(tmp_path, ROW)
    (again,) = answered(tmp_path, first | {"ttft_ms": "stale"})
    assert again == first


def test_no_rows_are_no_fault(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text(HEAD)
    assert estimate_file(path, out, lambda _done, _total: None) == (0, 0)
    assert out.read_text() == ",".join([*ROW, *ANSWERS]) + "\n"


def test_progress_is_told_row_by_row(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = written(tmp_path, ROW, ROW, ROW)
    estimate_file(path, tmp_path / "out.csv", lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
