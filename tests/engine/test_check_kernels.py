"""`muxplan check --on kernels` for real on a processor core: a plan for a pair of small models, apart and together."""

import gzip
import json
import os
from pathlib import Path

import pytest
import yaml

from planner import cli
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineEnvironmentError
from profiles.interference import Contention, Interference
from profiles.kernel_kinds import KINDS
from profiles.kernel_store import INDEX, digest

SPEC = """\
version: 1
name: two-small-ones
cluster:
  pools:
    - {name: far, gpu: h100-sxm-80gb, nodes: 1, gpus_per_node: 2, buy: gpu}
models:
  - {name: chat, architecture: ./chat.json, parallelism: {tp: [1]}, max_model_len: 512}
  - {name: write, architecture: ./write.json, parallelism: {tp: [1]}, max_model_len: 512}
workloads:
  - name: talk
    model: chat
    traffic: {rate_rps: 2}
    tokens: {input: {mean: 24, cv: 0.3}, output: {mean: 8, cv: 0.3}}
    slo: {ttft_ms: 5000, tpot_ms: 2000, attainment: 0.9}
  - name: letters
    model: write
    traffic: {rate_rps: 2}
    tokens: {input: {mean: 24, cv: 0.3}, output: {mean: 8, cv: 0.3}}
    slo: {ttft_ms: 5000, tpot_ms: 2000, attainment: 0.9}
"""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
CORE = str(min(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def python() -> str:
    try:
        return str(find_torch(None))
    except EngineEnvironmentError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plan."""
    found = tmp_path_factory.mktemp("check")
    (found / "spec.yaml").write_text(SPEC)
    (found / "chat.json").write_text(json.dumps(CONFIG))
    (found / "write.json").write_text(json.dumps({**CONFIG, "hidden_size": 256}))
    assert cli.main(["plan", str(found / "spec.yaml"), "-o", str(found / "plan.yaml")]) == 0
    return found


def checked(folder: Path, python: str, plan: str, *more: str) -> int:
    """The exit code of a check with few short steps."""
    command = ["check", str(folder / plan), "--on", "kernels", "--device", "cpu", "--cores", CORE, "--json"]
    command += ["--kernels", str(folder / "kernels"), "--time-limit", "8", "--engine-python", python]
    return cli.main([*command, "--duration", "5", "--steps", "3", *more])


def test_a_plan_is_run_as_kernels_against_tables_of_this_device(
    folder: Path, python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = checked(folder, python, "plan.yaml", "--tolerance", "1.0")
    found = json.loads(capsys.readouterr().out)
    assert (folder / "kernels" / INDEX).is_file(), "they were measured first"
    assert len(found["groups"]) == 2 and not found["ended"], "one group of each template"
    assert code == (0 if found["held"] else 1)
    for group in found["groups"].values():
        assert group["quantization"] == "bf16" and "sampling" in group["not_run"]
        assert sum(step["weight_fraction"] for step in group["steps"]) == pytest.approx(1.0, abs=1e-4)
        # Neighbours of this machine may stretch a window; a tenth or ten times would be another kernel.
        assert 0.1 < 1.0 + group["error_fraction"] < 10


def test_tables_that_say_too_little_do_not_hold(folder: Path, python: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every kernel takes a fiftieth of what was measured: more than a busy minute of this machine makes up for."""
    kernels = folder / "kernels"
    kept = {path: path.read_bytes() for path in kernels.iterdir()}
    index = yaml.safe_load((kernels / INDEX).read_text())
    for name, table in index["tables"].items():
        table["sha256"] = _cut(kernels / f"{name}.csv.gz", len(KINDS[name].lines))
    (kernels / INDEX).write_text(yaml.safe_dump(index))
    try:
        assert checked(folder, python, "plan.yaml", "--tolerance", "0.5") == 1
        found = json.loads(capsys.readouterr().out)["groups"]
        assert not any(group["held"] for group in found.values()), found
    finally:
        for path, payload in kept.items():
            path.write_bytes(payload)


def _cut(table: Path, keys: int) -> str:
    """The table with a fiftieth of its times, which come after the keys; its digest."""
    lines = gzip.decompress(table.read_bytes()).decode().splitlines()
    cut = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        cut.append(",".join([*cells[:keys], *(f"{float(t) / 50:.5g}" if t else "" for t in cells[keys:])]))
    table.write_bytes(gzip.compress("\n".join((*cut, "")).encode()))
    return digest(table.read_bytes())


def test_groups_on_one_gpu_slow_each_other_down(folder: Path, python: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["groups"][1]["gpu_ids"] = [dict(gpu) for gpu in plan["groups"][0]["gpu_ids"]]
    (folder / "together.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    (folder / "interference.yaml").write_text(yaml.safe_dump(TURNS.model_dump(mode="json")))
    first = plan["groups"][0]["id"]
    extra = ("--group", first, "--interference", str(folder / "interference.yaml"), "--tolerance", "1.0")
    measured: list[float] = []
    while len(measured) < 3 and not any(factor > 1.2 for factor in measured):
        # Two that take turns on a core; other programs of a busy machine may hide it, but not every time.
        checked(folder, python, "together.yaml", *extra)
        found = json.loads(capsys.readouterr().out)["groups"][first]["neighbours"]
        assert [one["group"] for one in found] == [plan["groups"][1]["id"]]
        measured.append(found[0]["measured"])
    assert max(measured) > 1.2, measured
    assert found[0]["predicted"] == pytest.approx(2.0) and found[0]["evidence"] == "modelled"


def test_a_minute_of_traffic_is_taken_unless_said_otherwise(
    folder: Path, python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = yaml.safe_load((folder / "plan.yaml").read_text())["groups"][0]["id"]
    command = ["check", str(folder / "plan.yaml"), "--on", "kernels", "--device", "cpu", "--cores", CORE, "--json"]
    command += ["--kernels", str(folder / "kernels"), "--engine-python", python, "--group", first, "--steps", "2"]
    assert cli.main(command) in (0, 1)
    assert set(json.loads(capsys.readouterr().out)["groups"]) == {first}


def test_a_group_that_is_not_there_is_named(folder: Path, python: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(folder, python, "plan.yaml", "--group", "nobody") == 1
    assert "the plan has no group 'nobody'" in capsys.readouterr().err


TURNS = Interference.model_validate(
    {
        "gpu": "another",
        "device": "made up",
        "sharing": ["cores"],
        "loads": {
            "any": {
                "kernel": "gemm",
                "columns": {"m": 1},
                "alone_s": 1e-3,
                "demand": {"share_fraction": 1, "compute_fraction": 0.123, "bandwidth_fraction": 0.5},
            }
        },
        "pairs": [{"first": "any", "second": "any", "first_slowdown": 2, "second_slowdown": 2, "spread_fraction": 0}],
        "contention": Contention(
            weights={"slice": 1.0, "arithmetic": 0, "bandwidth": 0, "cache": 0, "launch": 0},
            pairs=2,
            held_out_median_error_fraction=0,
            held_out_p90_error_fraction=0,
        ).model_dump(),
        "sources": [{"source": "two processes that take turns", "date": "2026-11-21", "covers": ["pairs"]}],
    }
)
