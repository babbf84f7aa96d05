"""`muxplan check`: a plan against a real engine; predicted beside measured."""

import argparse
import sys
from pathlib import Path

from planner.check.check_vllm import CheckOptions, check_on_vllm
from planner.check.render import render_check
from planner.check.result import CheckResult
from planner.commands import check_kernels
from planner.files import atomic_write_text, check_writable
from planner.plan_io import read_plan
from planner.progress import Progress, interruptible, line_writer
from planner.runtime.environment import find_environment
from planner.runtime.errors import EngineError

NOT_HELD = 1


def run(arguments: argparse.Namespace) -> int:
    """Check; 0 when the plan held, 1 when it did not or an engine failed."""
    if arguments.output:
        check_writable(Path(arguments.output))
    if arguments.on == "kernels":
        return check_kernels.run(arguments)
    path = Path(arguments.plan)
    plan = read_plan(path)
    with interruptible("stopping the engines (Ctrl-C again ends at once)") as interrupt:
        options = CheckOptions(
            tolerance_fraction=arguments.tolerance,
            duration_s=arguments.duration,
            windows=arguments.windows,
            seed=arguments.seed,
            node=arguments.node,
            groups=tuple(arguments.group or ()),
            first_port=arguments.first_port,
            dummy_weights=arguments.dummy_weights,
            cancelled=interrupt,
        )
        place = (find_environment(arguments.engine_python), Path(arguments.logs).absolute())
        try:
            found = check_on_vllm(plan, path.parent, options, place, Progress(say=line_writer(sys.stderr)))
        except EngineError as error:
            sys.stderr.write(f"muxplan: {error}\n")
            return NOT_HELD
    return _told(found, arguments)


def _told(found: CheckResult, arguments: argparse.Namespace) -> int:
    text = found.model_dump_json(indent=2) + "\n"
    if arguments.output:
        atomic_write_text(Path(arguments.output), text)
    sys.stdout.write(text if arguments.json else render_check(found))
    return 0 if found.held else NOT_HELD
