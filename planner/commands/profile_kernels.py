"""`muxplan profile kernels`: kernel tables of this machine's own device."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from planner.commands.profile_import import tables_text
from planner.kernel_lines import Extent, model_deployments
from planner.profile_kernels import GPU_FILE, KernelProfile, Settings, profile_kernels
from planner.progress import Progress, interruptible, line_writer
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineError

FAILED = 1
MODELS = {
    "cuda": ("llama-3.1-8b", "llama-3.3-70b", "qwen3-32b", "qwen3-30b-a3b"),
    "cpu": ("qwen3-0.6b",),
}
EXTENTS = {"cuda": (8192, 256, 16384), "cpu": (512, 16, 2048)}
"""Tokens of a step, sequences, and tokens of a sequence, by device."""


def run(arguments: argparse.Namespace) -> int:
    """Measure; 0 when tables were written, 1 when the device could not be measured."""
    tokens, batch, context = EXTENTS[arguments.device]
    settings = Settings(
        python=find_torch(arguments.engine_python),
        device=arguments.device,
        cores=tuple(arguments.cores),
        gpu=arguments.gpu,
        deployments=lambda gpu: model_deployments(
            gpu, arguments.models or MODELS[arguments.device], arguments.tp, arguments.quantization
        ),
        extent=Extent(
            max_tokens=arguments.max_tokens or tokens,
            max_batch=arguments.max_batch or batch,
            max_context=arguments.max_context or context,
        ),
        target_fraction=arguments.error,
        time_limit_s=arguments.time_limit,
        folder=Path(arguments.output),
    )
    told = "stopping: what was measured is kept (Ctrl-C again ends at once)"
    with interruptible(told) as interrupt:
        try:
            found = profile_kernels(settings, Progress(say=line_writer(sys.stderr)), interrupt)
        except EngineError as error:
            sys.stderr.write(f"muxplan: {error}\n")
            return FAILED
    sys.stdout.write(_as_json(found, settings.folder) if arguments.json else _as_text(found, settings.folder))
    return 0


def _as_json(found: KernelProfile, folder: Path) -> str:
    payload = {
        "folder": str(folder),
        "points": found.points,
        "failed": dict(found.failed),
        "noise_limited": dict(found.noise_limited),
        "ended": found.ended,
        **found.imported.index.model_dump(mode="json"),
    }
    return json.dumps(payload, indent=2) + "\n"


def _as_text(found: KernelProfile, folder: Path) -> str:
    lines = [tables_text(found.imported, folder).rstrip()]
    if found.between_errors:
        median, p90 = np.quantile(found.between_errors, (0.5, 0.9))
        lines.append(f"points measured between others were read {median:.1%} off before (median; p90 {p90:.1%})")
    lines += [f"not measured: {what} ({count} times)" for what, count in found.failed.items()]
    lines += [
        f"limited by noise: {kernel} points may be off by {off:.1%}, more than --error: a quieter machine would help"
        for kernel, off in found.noise_limited.items()
    ]
    if found.ended:
        lines.append(f"ended by {found.ended}")
    lines.append(f"a spec uses it as `gpu: {folder}/{GPU_FILE}`")
    return "\n".join((*lines, ""))
