"""`muxplan profile kernels` for real on a processor core: tables that a plan then uses."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from planner import cli
from planner.plan_io import read_plan
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineEnvironmentError
from planner.runtime.torch_worker import TorchWorker, crew
from profiles.evidence import Evidence
from profiles.gpus import find_gpu
from profiles.kernel_kinds import COLLECTIVES
from profiles.kernel_table import load_tables

SMALL = ("--models", "qwen3-0.6b", "--max-tokens", "16", "--max-batch", "4", "--max-context", "64", "--error", "0.9")
SPEC = """\
version: 1
name: own-kernels
cluster:
  pools:
    - {name: here, gpu: ./gpu.yaml, nodes: 1, gpus_per_node: 1, price_usd_per_gpu_hour: 0.1}
models:
  - {name: chat, architecture: qwen3-0.6b, parallelism: {tp: [1]}, max_model_len: 512}
workloads:
  - name: talk
    model: chat
    traffic: {rate_rps: 0.2}
    tokens: {input: {mean: 12, cv: 0.3}, output: {mean: 8, cv: 0.3}}
    slo: {ttft_ms: 5000, tpot_ms: 2000, attainment: 0.9}
"""


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return find_torch(None)
    except EngineEnvironmentError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of a few points, measured here."""
    found = tmp_path_factory.mktemp("kernels") / "own"
    command = ["profile", "kernels", "--device", "cpu", "-o", str(found), "--engine-python", str(python), *SMALL]
    assert cli.main(command) == 0
    return found


def test_the_tables_hold_what_was_measured(folder: Path) -> None:
    gpu = find_gpu(str(folder / "gpu.yaml"))
    tables = load_tables(folder, gpu)
    assert {"gemm", "prefill_attention", "decode_attention", "norm", "copy"} == set(tables.kinds)
    curve = tables.gemm("bf16" if "bf16" in gpu.peak_flops else "fp32", 4096, 1024)
    assert curve is not None and curve.evidence(float(curve.at[curve.held][0])) is Evidence.MEASURED
    assert (curve.seconds > 0).all()
    header, first = (folder / "points.csv").read_text().splitlines()[:2]
    assert "spread_fraction" in header and first.endswith(",clock")
    assert not folder.with_name("own.journal").exists(), "it was finished"


def test_a_folder_of_something_else_is_refused_before_anything_is_measured(
    python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = ["profile", "kernels", "--device", "cpu", "-o", str(tmp_path), "--engine-python", str(python), *SMALL]
    assert cli.main(command) == 2
    assert "holds no kernel tables" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_plan_uses_them(folder: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((folder / "gpu.yaml").read_text())
    # The engine's own terms of this test are those of a GPU: none are known for a processor but measured steps.
    values |= {"generation": "other", "kernels": str(folder) + "/"}
    (tmp_path / "gpu.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert cli.main(["plan", str(tmp_path / "spec.yaml"), "-o", str(tmp_path / "plan.yaml")]) == 0
    plan = read_plan(tmp_path / "plan.yaml")
    assert plan.groups


def test_an_estimate_tells_what_was_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "--model", "qwen3-0.6b", "--gpu", str(folder / "gpu.yaml"), "--input", "12", "--output", "4"]
    assert cli.main([*command, "--concurrency", "1", "--json"]) == 0
    kernels = {part["kernel"]: part for part in json.loads(capsys.readouterr().out)["breakdown"]}
    assert kernels["qkv"]["evidence"] in ("measured", "interpolated", "scaled")


def test_collectives_run_between_processes(python: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        workers = [stack.enter_context(worker) for worker in crew(python, "cpu", 2, cores)]
        for operation in COLLECTIVES:
            columns = {"operation": operation, "gpus": 2, "bytes": 2**16}
            for worker in workers:
                worker.send({"do": "measure", "kernel": "collective", "columns": columns, "budget_s": 0.1})
            answers = [worker.receive(600.0) for worker in workers]
            assert all(len(answer["seconds"]) > 5 and min(answer["seconds"]) > 0 for answer in answers), answers


def test_latent_attention_takes_longer_over_more_tokens(python: Path) -> None:
    fixed = {"operand": "fp32", "heads": 4}
    with TorchWorker(python=python, device="cpu", cores=(0,)) as worker:

        def seconds(kernel: str, **columns: int) -> float:
            asked = {"do": "measure", "kernel": kernel, "columns": {**fixed, **columns}, "budget_s": 0.1}
            return float(min(worker.ask(asked)["seconds"]))

        assert 0 < seconds("mla_prefill", tokens=32) < seconds("mla_prefill", tokens=512)
        assert 0 < seconds("mla_decode", batch=2, context=32) < seconds("mla_decode", batch=2, context=4096)
        refused = worker.ask(
            {
                "do": "measure",
                "kernel": "mla_decode",
                "columns": {"operand": "fp8", "heads": 4, "batch": 1, "context": 16},
                "budget_s": 0.1,
            }
        )
        assert refused["unsupported"]


def test_killed_it_goes_on_where_it_was(python: Path, tmp_path: Path) -> None:
    folder, journal = tmp_path / "own", tmp_path / "own.journal"
    command = [sys.executable, "-m", "planner.cli", "profile", "kernels", "--device", "cpu", "-o", str(folder)]
    command += ["--engine-python", str(python), *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (not journal.exists() or journal.read_text().count("\n") < 6) and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    known = journal.read_text().splitlines()[:6]
    assert not folder.exists(), "nothing is half written"
    interrupted = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while journal.read_text().count("\n") < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert journal.read_text().splitlines()[:6] == known, "the second run takes up what the first one measured"
    interrupted.send_signal(signal.SIGINT)
    out, _ = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 0 and "interrupted: the same command goes on from here" in out
    assert (folder / "table.yaml").is_file() and journal.exists()
