"""Two tiny models on two cores: the spec, and the steps of the loop as a user types them."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

SPEC = """\
version: 1
name: cpu-pair
engine: vllm-cpu
cluster:
  pools:
    - {name: cores, gpu: ./cpu.yaml, nodes: 1, gpus_per_node: 2, buy: gpu}
models:
  - {name: talker, architecture: ./talker/config.json, parallelism: {tp: [1]}, max_model_len: 1024}
  - {name: writer, architecture: ./writer/config.json, parallelism: {tp: [1]}, max_model_len: 1024}
workloads:
  - name: talk
    model: talker
    traffic: {rate_rps: 1.5}
    tokens: {input: {mean: 120, cv: 0.5}, output: {mean: 40, cv: 0.3}}
    slo: {ttft_ms: 1000, tpot_ms: 150, attainment: 0.9}
  - name: write
    model: writer
    traffic: {rate_rps: 2.0}
    tokens: {input: {mean: 100, cv: 0.5}, output: {mean: 60, cv: 0.3}}
    slo: {ttft_ms: 1000, tpot_ms: 150, attainment: 0.9}
"""
MODELS = {"talker": ("llama-3.1-8b", "6", "384"), "writer": ("qwen3-8b", "4", "256")}


def muxplan(folder: Path, engine: Path, *words: str, limit_s: float = 400.0) -> "subprocess.CompletedProcess[str]":
    """Run one command of muxplan in a folder, with that engine's Python."""
    return subprocess.run(
        [sys.executable, "-m", "planner.cli", *words],
        cwd=folder,
        env={**os.environ, "MUXPLAN_ENGINE_PYTHON": str(engine), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def two_free_ports() -> int:
    """A port that is free with the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def profile(folder: Path, engine: Path, passes: int) -> "subprocess.CompletedProcess[str]":
    """Measure both models on cores 0 and 1 into cpu.yaml."""
    words = ["--engine", "vllm-cpu", "--memory-gib", "2.6", "--price", "0.05", "--devices", "0", "1"]
    words += ["--prompts", "32", "128", "512", "--passes", str(passes), "--first-port", str(two_free_ports())]
    return muxplan(folder, engine, "profile", "engine", "talker", "writer", "-o", "cpu.yaml", *words)


def on_one_core(folder: Path) -> None:
    """Write the folder's plan with both models on the first one's core as shared.plan.yaml."""
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    first, second = plan["groups"]
    replicas = [{**group["replicas"][0], "sm_fraction": 0.5} for group in (first, second)]
    shared = {"id": "both#0", "template": "both", "queue": "both", "kind": "colocated", "replicas": replicas}
    plan["groups"] = [{**first, **shared}]
    for routes in plan["routes"].values():
        routes[:] = [{**routes[0], "group": "both#0", "weight_fraction": 1.0}]
    (folder / "shared.plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))


def engines_running(folder: Path) -> list[psutil.Process]:
    """Engine processes that work in a folder or below and have not ended."""
    return [p for p in psutil.process_iter() if _works_in(p, folder)]


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        line = " ".join(process.cmdline())
        return ("VLLM::" in line or "vllm_launcher" in line) and Path(process.cwd()).is_relative_to(folder)
    return False
