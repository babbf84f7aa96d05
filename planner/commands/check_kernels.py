"""`muxplan check --on kernels`: a plan's steps as real kernels on the device at hand."""

import argparse
import sys
import tempfile
from pathlib import Path

from planner.check.check_kernels import KernelOptions, check_on_kernels
from planner.check.kernels_result import render_kernels
from planner.check.kernels_tables import measure_tables
from planner.files import atomic_write_text
from planner.plan_io import read_plan
from planner.profile_kernels import GPU_FILE
from planner.progress import Progress, interruptible, line_writer
from planner.replay import planned_market
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineError
from profiles.gpus import find_gpu
from profiles.interference import load_interference
from profiles.kernel_store import INDEX

NOT_HELD = 1


def run(arguments: argparse.Namespace) -> int:
    """Check; 0 when the prediction held, 1 when it did not or the device failed."""
    path = Path(arguments.plan)
    plan = read_plan(path)
    progress = Progress(say=line_writer(sys.stderr))
    market = planned_market(plan, path.parent, progress)
    with interruptible("stopping (Ctrl-C again ends at once)") as interrupt, tempfile.TemporaryDirectory() as beside:
        options = KernelOptions(
            python=find_torch(arguments.engine_python),
            device=arguments.device,
            cores=tuple(arguments.cores),
            tolerance_fraction=arguments.tolerance,
            duration_s=arguments.duration,
            seed=arguments.seed,
            steps=arguments.steps,
            groups=tuple(arguments.group or ()),
            interference=load_interference(Path(arguments.interference)) if arguments.interference else None,
            cancelled=interrupt,
        )
        folder = Path(arguments.kernels or Path(beside) / "kernels")
        try:
            if not (folder / INDEX).is_file():
                measure_tables(plan, market, folder, options, arguments.time_limit, progress)
            found = check_on_kernels(plan, market, find_gpu(str(folder / GPU_FILE)), options, progress)
        except EngineError as error:
            sys.stderr.write(f"muxplan: {error}\n")
            return NOT_HELD
    text = found.model_dump_json(indent=2) + "\n"
    if arguments.output:
        atomic_write_text(Path(arguments.output), text)
    sys.stdout.write(text if arguments.json else render_kernels(found))
    return 0 if found.held else NOT_HELD
