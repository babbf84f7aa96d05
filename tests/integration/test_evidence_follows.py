"""Change how an input is known, and the figures of the plan say so."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner import cli

SPEC = """\
version: 1
name: evidence
cluster:
  pools:
    - {name: pool, gpu: GPU, nodes: 1, gpus_per_node: 2, buy: gpu, price_usd_per_gpu_hour: 1.0}
models:
  - {name: chat, architecture: llama-3.1-8b, parallelism: {tp: [1]}, max_model_len: 8192}
workloads:
  - name: talk
    model: chat
    traffic: {rate_rps: 2}
    tokens: {input: {mean: 500, cv: 0.5}, output: {mean: 100, cv: 0.5}}
    slo: {ttft_ms: 3000, tpot_ms: 100, attainment: 0.9}
"""


def figures(folder: Path, spec: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Evidence of the workload in the plan, and in a simulation of it."""
    (folder / "spec.yaml").write_text(spec)
    assert cli.main(["plan", str(folder / "spec.yaml"), "-o", str(folder / "plan.yaml")]) == 0
    capsys.readouterr()
    assert cli.main(["simulate", str(folder / "plan.yaml"), "--draws", "1", "--json"]) == 0
    simulated = json.loads(capsys.readouterr().out)["workloads"]["talk"]["evidence"]
    planned = yaml.safe_load((folder / "plan.yaml").read_text())["workloads"]["talk"]["evidence"]
    return planned, simulated


@pytest.mark.parametrize(
    ("gpu", "headlines"), [("h100-sxm-80gb", {"interpolated", "fitted"}), ("h100-pcie-80gb", {"modelled"})]
)
def test_a_gpu_without_tables_is_modelled_all_the_way(
    gpu: str, headlines: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned, simulated = figures(tmp_path, SPEC.replace("GPU", gpu), capsys)
    assert planned["headline"] in headlines and simulated["headline"] in headlines
    assert ("modelled" in planned["shares"]) == (gpu == "h100-pcie-80gb")


def test_a_gpu_whose_tables_are_taken_away_is_scaled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = yaml.safe_load((Path(__file__).parents[2] / "profiles/data/gpus/h100-sxm-80gb.yaml").read_text())
    inline = {k: gpu[k] for k in ("memory_bytes", "memory_bandwidth_bytes_per_s", "peak_flops")}
    planned, simulated = figures(tmp_path, SPEC.replace("GPU", json.dumps({"name": "mine", **inline})), capsys)
    assert planned["headline"] == simulated["headline"]
    assert not {"measured", "interpolated"} & {name for name, share in planned["shares"].items() if share > 0.0}


def test_a_calibrated_deployment_is_fitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC.replace("GPU", "h100-sxm-80gb")
    before, _ = figures(tmp_path, spec, capsys)
    assert before["shares"].get("fitted", 0.0) < 1.0
    estimate = ["estimate", "--model", "llama-3.1-8b", "--gpu", "h100-sxm-80gb", "--input", "500", "--output", "100"]
    assert cli.main([*estimate, "--concurrency", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    columns = "model,gpu,tp,pp,ep,quantization,input_tokens,output_tokens,concurrency,ttft_ms,tpot_ms"
    ttft, tpot = 1.5 * told["ttft_ms"]["mean"], 1.5 * told["tpot_ms"]["mean"]
    (tmp_path / "runs.csv").write_text(f"{columns}\nllama-3.1-8b,h100-sxm-80gb,1,1,1,,500,100,4,{ttft},{tpot}\n")
    assert cli.main(["calibrate", str(tmp_path / "runs.csv"), "-o", str(tmp_path / "c.yaml")]) == 0
    after, _ = figures(tmp_path, spec.replace("name: evidence", "name: evidence\ncalibration: ./c.yaml"), capsys)
    assert after["shares"]["fitted"] > before["shares"].get("fitted", 0.0)
