"""`muxplan catalogue`: what is known by name, as a table or as JSON."""

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from profiles.engines import engine_names, load_engine
from profiles.gpus import Gpu, gpu_names, load_gpu
from profiles.lengths import length_names, load_lengths
from profiles.models import load_model, model_names
from profiles.parameters import parameter_count
from profiles.units import GIB

WIDTH = 100


def run(arguments: argparse.Namespace) -> int:
    """Print one list of the catalogue; exit code 0."""
    rows = ROWS[arguments.kind]()
    if arguments.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    console = Console(width=WIDTH, highlight=False)
    console.print(table)
    return 0


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _gpus() -> list[dict[str, Any]]:
    found = []
    for name in gpu_names():
        gpu = load_gpu(name)
        found.append(
            {
                "gpu": name,
                "GiB": round(gpu.visible_memory_bytes / GIB, 1),
                "HBM TB/s": gpu.memory_bandwidth_bytes_per_s / 1e12,
                "TFLOPS": gpu.flops(gpu.half_precision) / 1e12,
                "at fp8": gpu.peak_flops["fp8"] / 1e12 if "fp8" in gpu.peak_flops else None,
                "link GB/s": gpu.nvlink_bytes_per_s / 1e9,
                "domain": gpu.nvlink_domain_gpus,
                "USD/h": gpu.price_usd_per_gpu_hour,
                "kernels": _kernels(gpu),
            }
        )
    return found


def _kernels(gpu: Gpu) -> str:
    """How the GPU's kernels are known."""
    if gpu.kernels is not None:
        return "measured"
    return "own curve" if gpu.efficiency else f"as {gpu.sister}"


def _models() -> list[dict[str, Any]]:
    found = []
    for name in model_names():
        model = load_model(name)
        found.append(
            {
                "model": name,
                "billion": round(parameter_count(model) / 1e9, 2),
                "layers": model.layers,
                "heads/kv": f"{model.heads}/{model.kv_heads}",
                "experts": model.moe.experts if model.moe else None,
                "native": str(model.dtype),
                "max length": model.max_position_embeddings,
            }
        )
    return found


def _engines() -> list[dict[str, Any]]:
    found = []
    for name in engine_names():
        engine = load_engine(name)
        found.append({"engine": name, "version": engine.version, "deployable": ", ".join(engine.deployable_kinds)})
    return found


def _lengths() -> list[dict[str, Any]]:
    found = []
    for name in length_names():
        lengths = load_lengths(name)
        found.append(
            {"lengths": name, "mean input": round(lengths.mean_input), "mean output": round(lengths.mean_output)}
        )
    return found


ROWS = {"gpus": _gpus, "models": _models, "engines": _engines, "lengths": _lengths}
