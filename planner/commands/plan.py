"""`muxplan plan`: from a spec file to a plan, printed and written."""

import argparse
import sys
from pathlib import Path

from planner.files import check_writable
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_io import plan_to_json, write_plan
from planner.progress import Progress, interruptible, line_writer
from planner.render_plan import render_plan
from planner.spec_load import load_spec

NO_PLAN = 1


def run(arguments: argparse.Namespace) -> int:
    """Plan; 0 with a plan, 1 without one (the reasons are printed instead)."""
    if arguments.output:
        check_writable(Path(arguments.output))
    progress = Progress(say=line_writer(sys.stderr))
    with progress.stage("spec"):
        loaded = load_spec(Path(arguments.spec))
    with interruptible() as interrupt:
        options = PlanOptions(
            solver=arguments.solver,
            seed=arguments.seed,
            gap_fraction=arguments.gap,
            wall_limit_s=arguments.time_limit,
            what_if=arguments.what_if,
            cancelled=interrupt,
        )
        plan = plan_spec(loaded, options, progress)
    if arguments.output:
        write_plan(plan, Path(arguments.output), loaded.folder)
        progress.say(f"written to {arguments.output}")
    if arguments.json:
        timed = plan.model_copy(update={"wall_s": {k: round(v, 3) for k, v in progress.wall_s.items()}})
        sys.stdout.write(plan_to_json(timed))
    else:
        sys.stdout.write(render_plan(plan))
    return 0 if plan.groups else NO_PLAN
