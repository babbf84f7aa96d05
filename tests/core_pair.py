"""Two tiny models on two cores, planned with steps that nobody measured: only the form of the plan matters."""

import json
from pathlib import Path

import yaml

from planner import cli
from planner.runtime.tiny_model import tiny_config
from profiles.models import load_model

MODELS = {"talker": "llama-3.1-8b", "writer": "qwen3-8b"}
SPEC = """\
version: 1
name: core-pair
engine: vllm-cpu
cluster:
  pools:
    - {name: cores, gpu: ./cpu.yaml, nodes: 1, gpus_per_node: 2, buy: gpu}
models:
  - {name: talker, architecture: ./talker/config.json, max_model_len: 256}
  - {name: writer, architecture: ./writer/config.json, max_model_len: 256}
workloads:
  - name: talk
    model: talker
    traffic: {rate_rps: 0.5}
    tokens: {input: {mean: 20, cv: 0.2}, output: {mean: 8, cv: 0.2}}
    slo: {ttft_ms: 1000, tpot_ms: 150, attainment: 0.9}
  - name: write
    model: writer
    traffic: {rate_rps: 0.5}
    tokens: {input: {mean: 20, cv: 0.2}, output: {mean: 8, cv: 0.2}}
    slo: {ttft_ms: 1000, tpot_ms: 150, attainment: 0.9}
"""
CORE = {
    "name": "a-core",
    "generation": "cpu",
    "memory_bytes": 2_700_000_000,
    "visible_memory_bytes": 2_700_000_000,
    "memory_bandwidth_bytes_per_s": 2.0e10,
    "peak_flops": {"fp32": 5.0e10},
    "price_usd_per_gpu_hour": 0.05,
    "nvlink_bytes_per_s": 0.0,
    "nvlink_domain_gpus": 1,
    "pcie_bytes_per_s": 3.2e10,
    "sister": "h100-sxm-80gb",
}
STEPS = {
    **{"quantization": "fp32", "kv_dtype": "fp32", "request_s": 0.01, "input_token_s": 1.0e-6},
    "step": {
        "tokens": [1, 1024],
        "linear_s": [0.01, 0.1],
        "kv_token_s": 1.0e-7,
        "prompt_token_squared_s": 1.0e-7,
    },
    **{"error_fraction": 0.0, "repeats": 1},
}


def write_configs(folder: Path) -> None:
    """The config.json of both models, without weights."""
    for name, shape in MODELS.items():
        config = tiny_config(load_model(shape), layers=2, hidden=128, vocabulary=1024, length=256)
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")


def plan_pair(folder: Path) -> Path:
    """The plan of the two models that lie in the folder."""
    digests = {name: load_model(str(folder / name / "config.json")).digest for name in MODELS}
    profile = {
        **{"version": 1, "gpu": CORE, "engine": "vllm-cpu", "engine_version": "0.32.0"},
        "steps": [{**STEPS, "model": name, "model_digest": digest} for name, digest in digests.items()],
        "sources": [{"source": "made up", "date": "2026-11-21", "covers": ["steps"]}],
    }
    (folder / "cpu.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    assert cli.main(["plan", str(folder / "spec.yaml"), "-o", str(folder / "plan.yaml")]) == 0
    return folder / "plan.yaml"
