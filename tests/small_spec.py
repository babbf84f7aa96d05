"""A small spec that plans in about a second, as YAML text."""

from pathlib import Path

SMALL = """\
version: 1
name: small
cluster:
  pools:
    - {name: l4, gpu: l4-24gb, max_nodes: 4, buy: gpu, gpus_per_node: 4}
models:
  - {name: tiny, architecture: qwen3-0.6b, parallelism: {tp: [1]}, max_model_len: 4096}
workloads:
  - name: chat
    model: tiny
    traffic: {rate_rps: 10.0}
    tokens: {input: {mean: 300, cv: 0.5}, output: {mean: 60, cv: 0.5}}
    slo: {ttft_ms: 800, tpot_ms: 60, attainment: 0.95}
"""


def written(folder: Path, text: str = SMALL) -> Path:
    """The spec as a file in the folder."""
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path
