"""`muxplan check --on kernels`: a plan's steps as real kernels on the device at hand."""

import argparse
import tempfile
from pathlib import Path

from planner.check.check_kernels import KernelOptions, check_on_kernels
from planner.check.kernels_result import KernelsResult
from planner.check.kernels_tables import measure_tables
from planner.plan_file import Plan
from planner.profile_kernels import GPU_FILE
from planner.progress import Progress, interruptible
from planner.replay import planned_market
from planner.runtime.environment import find_torch
from profiles.gpus import find_gpu
from profiles.interference import load_interference
from profiles.kernel_store import INDEX


def check(
    plan: Plan, folder: Path, arguments: argparse.Namespace, duration_s: float, progress: Progress
) -> KernelsResult:
    """The check of a plan whose spec names files from `folder`; EngineError when the device fails."""
    market = planned_market(plan, folder, progress)
    with interruptible("stopping (Ctrl-C again ends at once)") as interrupt, tempfile.TemporaryDirectory() as beside:
        options = KernelOptions(
            python=find_torch(arguments.engine_python),
            device=arguments.device,
            cores=tuple(arguments.cores),
            tolerance_fraction=arguments.tolerance,
            duration_s=duration_s,
            seed=arguments.seed,
            steps=arguments.steps,
            groups=tuple(arguments.group or ()),
            interference=load_interference(Path(arguments.interference)) if arguments.interference else None,
            cancelled=interrupt,
        )
        tables = Path(arguments.kernels or Path(beside) / "kernels")
        if not (tables / INDEX).is_file():
            measure_tables(plan, market, tables, options, arguments.time_limit, progress)
        return check_on_kernels(plan, market, find_gpu(str(tables / GPU_FILE)), options, progress)
