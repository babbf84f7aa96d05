"""Trace files: what is read, and which file and line a refused one names."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from planner.trace_file import TraceError, read_trace

HEAD = "arrival_s,input_tokens,output_tokens\n"


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    payload = text.encode()
    path.write_bytes(gzip.compress(payload) if name.endswith(".gz") else payload)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_requests_start_at_zero_with_their_lengths(tmp_path: Path, name: str) -> None:
    trace = read_trace(written(tmp_path, HEAD + "5,10,20\n6,30,40\n9,50,60\n", name))
    np.testing.assert_array_equal(trace.arrival_s, [0.0, 1.0, 4.0])
    np.testing.assert_array_equal(trace.input_tokens, [10, 30, 50])
    np.testing.assert_array_equal(trace.output_tokens, [20, 40, 60])
    assert trace.has_tokens


def test_span_holds_one_gap_per_request(tmp_path: Path) -> None:
    """Three gaps of mean 2 s between four requests: four requests are 8 s of traffic, so the rate is 1 / 2 s."""
    trace = read_trace(written(tmp_path, HEAD + "0,1,1\n1,1,1\n2,1,1\n6,1,1\n"))
    assert trace.span_s == pytest.approx(8.0)


def test_lengths_are_one_where_there_are_none(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "arrival_s\n0\n1\n"))
    assert not trace.has_tokens
    np.testing.assert_array_equal(trace.input_tokens, [1, 1])
    np.testing.assert_array_equal(trace.output_tokens, [1, 1])


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "\ufeff" + (HEAD + "0,1,2\n1,3,4\n").replace("\n", "\r\n")))
    np.testing.assert_array_equal(trace.output_tokens, [2, 4])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: the first column must be arrival_s"),
        ("time,input_tokens,output_tokens\n0,1,1\n1,1,1\n", ":1: the first column must be arrival_s"),
        ("arrival_s,output_tokens,input_tokens\n0,1,1\n1,1,1\n", ":1: after arrival_s come"),
        (HEAD, "at least 2 requests"),
        (HEAD + "0,1,1\n", "at least 2 requests"),
        (HEAD + "0,1,1\n1,1\n", ":3: 2 fields where the header has 3"),
        (HEAD + "0,1,1\n1,1,x\n", ":3: output_tokens: 'x' is not a number"),
        (HEAD + "0,1,1\n,1,1\n", ":3: arrival_s: '' is not a number"),
        (HEAD + "0,1,1\nnan,1,1\n", ":3: not a finite number"),
        (HEAD + "0,1,1\n1,inf,1\n", ":3: not a finite number"),
        (HEAD + "-1,1,1\n0,1,1\n", ":2: arrival_s must not be negative"),
        (HEAD + "0,1,1\n2,1,1\n1,1,1\n", ":4: arrival_s must not be negative and must not fall"),
        (HEAD + "0,1,1\n1,0,1\n", ":3: tokens must be whole numbers from 1"),
        (HEAD + "0,1,1\n1,1,-3\n", ":3: tokens must be whole numbers from 1"),
        (HEAD + "0,1,1\n1,1.5,1\n", ":3: tokens must be whole numbers from 1"),
        (HEAD + "0,1,1\n1,1e9,1\n", ":3: tokens must be whole numbers from 1"),
        (HEAD + "3,1,1\n3,1,1\n", "one instant"),
        (HEAD + "0,1,1\n1,1," + "9" * 200_000 + "\n", ":3: is no CSV"),
    ],
)
def test_a_refused_trace_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_cut_spoilt_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 97 + 1},{i % 89 + 1}\n" for i in range(5000))
    whole = gzip.compress((HEAD + rows).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    spoilt = bytearray(whole)
    spoilt[len(whole) // 2 : len(whole) // 2 + 200] = b"\xff" * 200
    (tmp_path / "spoilt.csv.gz").write_bytes(bytes(spoilt))
    (tmp_path / "plain.csv.gz").write_text(HEAD)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    for name in ("cut.csv.gz", "spoilt.csv.gz", "plain.csv.gz", "binary.csv", "none.csv", "."):
        with pytest.raises(TraceError, match=r"cannot be read|is not text"):
            read_trace(tmp_path / name)
