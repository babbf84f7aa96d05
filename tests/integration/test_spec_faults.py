"""Bad specs end in one SpecError that names file, line and field, in under two seconds, and never in a plan."""

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from planner import cli
from planner.spec_errors import SpecError
from planner.spec_load import load_spec
from planner.spec_resolve import resolve
from tests.small_spec import SMALL, written

LIMIT_S = 2.0


def changed(old: str, new: str) -> str:
    """The small spec with one piece replaced."""
    assert old in SMALL
    return SMALL.replace(old, new, 1)


WORKLOAD = "    traffic: {rate_rps: 10.0}\n"
FAULTS: dict[str, tuple[str, str, str]] = {
    # name: (text, field that the message names, words in the message)
    "nan": (changed("rate_rps: 10.0", "rate_rps: .nan"), "rate_rps", "finite"),
    "infinite": (changed("rate_rps: 10.0", "rate_rps: .inf"), "rate_rps", "finite"),
    "minus infinite": (changed("rate_rps: 10.0", "rate_rps: -.inf"), "rate_rps", "finite"),
    "negative": (changed("rate_rps: 10.0", "rate_rps: -1"), "rate_rps", "greater than 0"),
    "zero": (changed("rate_rps: 10.0", "rate_rps: 0"), "rate_rps", "greater than 0"),
    "huge": (changed("rate_rps: 10.0", "rate_rps: 1.0e308"), "rate_rps", "less than"),
    "unit": (changed("ttft_ms: 800", "ttft_ms: 800ms"), "slo.ttft_ms", "unit"),
    "text for a number": (changed("ttft_ms: 800", "ttft_ms: fast"), "slo.ttft_ms", "text"),
    "null": (changed("rate_rps: 10.0", "rate_rps: null"), "traffic", "exactly one"),
    "list for a mapping": (changed("{rate_rps: 10.0}", "[1, 2]"), "traffic", ""),
    "mapping for a number": (changed("rate_rps: 10.0", "rate_rps: {a: 1}"), "rate_rps", ""),
    "bool for a number": (changed("max_nodes: 4", "max_nodes: true"), "max_nodes", ""),
    "fraction for a count": (changed("max_nodes: 4", "max_nodes: 1.5"), "max_nodes", ""),
    "empty": ("", "", "empty"),
    "only a comment": ("# nothing\n", "", "empty"),
    "a word": ("hello\n", "", "fields"),
    "a list": ("- 1\n", "", "fields"),
    "no version": (changed("version: 1\n", ""), "version", "missing"),
    "other version": (changed("version: 1\n", "version: 2\n"), "version", ""),
    "no workloads": (SMALL[: SMALL.index("workloads:")] + "workloads: []\n", "workloads", ""),
    "no pools": (
        changed("pools:\n    - {name: l4, gpu: l4-24gb, max_nodes: 4, buy: gpu, gpus_per_node: 4}", "pools: []"),
        "pools",
        "",
    ),
    "key twice": (changed("name: small\n", "name: small\nname: big\n"), "name", "twice"),
    "pool twice": (
        changed("models:", "    - {name: l4, gpu: l4-24gb, max_nodes: 4}\nmodels:"),
        "cluster.pools[1].name",
        "twice",
    ),
    "unknown field": (changed("buy: gpu", "bay: gpu"), "bay", "Maybe you meant 'buy'"),
    "unknown gpu": (changed("gpu: l4-24gb", "gpu: l4-25gb"), "gpu", "Maybe you meant 'l4-24gb'"),
    "unknown architecture": (changed("qwen3-0.6b", "qwen3-0.7b"), "architecture", "Maybe you meant"),
    "unknown model": (changed("model: tiny", "model: tony"), "model", "Maybe you meant 'tiny'"),
    "unknown engine": (changed("name: small", "name: small\nengine: vlm"), "engine", "Maybe you meant 'vllm'"),
    "unknown quantization": (
        changed("parallelism: {tp: [1]}", "quantizations: [fp7]"),
        "quantizations[0]",
        "not known",
    ),
    "unknown lengths": (
        changed("{input: {mean: 300, cv: 0.5}, output: {mean: 60, cv: 0.5}}", "{lengths: azure}"),
        "tokens.lengths",
        "Known: azure-2023-conversation",
    ),
    "unknown constraint": (SMALL + "constraints: [{kind: budgt, usd_per_hour: 1}]\n", "constraints[0]", "budget"),
    "constraint on an unknown workload": (
        SMALL + "constraints: [{kind: survive, workload: chet, loss: node}]\n",
        "constraints[0].workload",
        "Maybe you meant 'chat'",
    ),
    "constraint on nothing": (SMALL + "constraints: [{kind: avoid, pool: l4}]\n", "constraints[0]", "exactly one"),
    "objective of later": (SMALL + "objectives: [serve, energy]\n", "objectives", "not planned"),
    "objective unknown": (SMALL + "objectives: [fame]\n", "objectives", ""),
    "name with a shell in it": (
        changed("name: chat", "name: 'a; rm -rf ~ #'"),
        "workloads[0].name",
        "for example 'a-rm--rf'",
    ),
    "name too long": (changed("name: chat", f"name: {'x' * 300}"), "workloads[0].name", "63"),
    "name in another script": (changed("name: chat", "name: чат"), "workloads[0].name", "not a name"),
    "tp zero": (changed("tp: [1]", "tp: [0]"), "tp", ""),
    "racks beyond nodes": (changed("max_nodes: 4", "max_nodes: 4, racks: 9"), "cluster.pools[0]", "racks"),
    "nodes and max_nodes": (changed("max_nodes: 4", "max_nodes: 4, nodes: 4"), "cluster.pools[0]", "exactly one"),
    "neither of them": (changed("max_nodes: 4, ", ""), "cluster.pools[0]", "exactly one"),
    "no tokens": (
        changed("    tokens: {input: {mean: 300, cv: 0.5}, output: {mean: 60, cv: 0.5}}\n", ""),
        "workloads[0]",
        "tokens",
    ),
    "mean below one": (changed("mean: 300", "mean: 0.5"), "mean", ""),
    "cv negative": (changed("cv: 0.5", "cv: -0.5"), "cv", ""),
    "attainment of one": (changed("attainment: 0.95", "attainment: 1.0"), "attainment", ""),
    "no limit": (changed("ttft_ms: 800, tpot_ms: 60, ", ""), "workloads[0]", "no limit"),
    "two sources of traffic": (
        changed("{rate_rps: 10.0}", "{rate_rps: 1.0, hourly_rps: [1.0]}"),
        "traffic",
        "exactly one",
    ),
    "missing trace": (changed("{rate_rps: 10.0}", "{trace: none.csv}"), "traffic.trace", "none.csv"),
    "missing latency table": (
        changed("architecture: qwen3-0.6b", "latency_table: none.csv"),
        "latency_table",
        "none.csv",
    ),
    "anchors": (changed("name: small", "name: &a small"), "", "anchors"),
    "bomb": ("a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n", "", "anchors"),
    "python tag": (changed("rate_rps: 10.0", "rate_rps: !!python/object/apply:os.system ['id']"), "", "tag"),
    "own tag": (changed("name: small", "name: !x small"), "name", "tag"),
    "binary tag": (changed("name: small", "name: !!binary aGk="), "name", "tag"),
    "merge key": (changed("name: small", "<<: {name: small}"), "", "plain words"),
    "two documents": (SMALL + "---\n" + SMALL, "", "YAML"),
    "deep": ("version: " + "[" * 500 + "]" * 500 + "\n", "", "deeply"),
    "truncated": (SMALL[: SMALL.index("0.5}}")], "", ""),
    "tab": (changed("name: small", "\tname: small"), "", "YAML"),
    "unreal integer": (changed("max_nodes: 4", "max_nodes: " + "9" * 40), "max_nodes", "large"),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault_is_told_with_its_place(name: str, tmp_path: Path) -> None:
    text, field, words = FAULTS[name]
    path = written(tmp_path, text)
    start = time.perf_counter()
    with pytest.raises(SpecError) as caught:
        resolve(load_spec(path))
    assert time.perf_counter() - start < LIMIT_S
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert int(message[len(str(path)) + 1 :].split(":")[0]) >= 1
    assert field in message and words in message, message
    assert len(message) < 4000


def _trace(rows: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "t.csv").write_text(rows, encoding="utf-8")

    return write


def _cut_gzip(folder: Path) -> None:
    whole = gzip.compress(b"arrival_s,input_tokens,output_tokens\n" + b"1,2,3\n" * 5000)
    (folder / "t.csv").write_bytes(whole[: len(whole) // 2])
    (folder / "t.csv").rename(folder / "t.csv.gz")


HEAD = "arrival_s,input_tokens,output_tokens\n"
TRACES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no header": (_trace("0,1,1\n1,1,1\n"), "t.csv", "arrival_s"),
    "unsorted": (_trace(HEAD + "1,5,5\n0.5,5,5\n2,5,5\n"), "t.csv", "t.csv:3"),
    "not a number": (_trace(HEAD + "0,5,5\n1,five,5\n"), "t.csv", "t.csv:3"),
    "nan": (_trace(HEAD + "0,5,5\nnan,5,5\n"), "t.csv", "t.csv:3"),
    "negative tokens": (_trace(HEAD + "0,5,5\n1,-5,5\n"), "t.csv", "t.csv:3"),
    "cut off": (_trace(HEAD + "0,5,5\n1,5\n"), "t.csv", "truncated"),
    "one request": (_trace(HEAD + "0,5,5\n"), "t.csv", "at least 2"),
    "all at once": (_trace(HEAD + "0,5,5\n0,5,5\n"), "t.csv", "one instant"),
    "cut gzip": (_cut_gzip, "t.csv.gz", "cannot be read"),
}


@pytest.mark.parametrize("name", sorted(TRACES))
def test_bad_trace_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    write, file, words = TRACES[name]
    write(tmp_path)
    path = written(tmp_path, changed("{rate_rps: 10.0}", f"{{trace: {file}}}"))
    with pytest.raises(SpecError, match=r"workloads\[0\]\.traffic\.trace") as caught:
        resolve(load_spec(path))
    assert words in str(caught.value)


def test_huge_file_directory_and_junk_are_refused_at_once(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"a: 1\n" * 2_000_000)
    junk = tmp_path / "junk.yaml"
    junk.write_bytes(bytes(range(256)) * 100)
    for path in (huge, junk, tmp_path, tmp_path / "none.yaml"):
        start = time.perf_counter()
        with pytest.raises(SpecError):
            load_spec(path)
        assert time.perf_counter() - start < LIMIT_S


def test_the_command_says_it_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, changed("ttft_ms: 800", "ttft_ms: 800ms"))
    assert cli.main(["plan", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("muxplan: ") == 1
    assert "spec.yaml:13: workloads[0].slo.ttft_ms:" in err
