"""`muxplan check`: a plan against a real engine, a running service or fresh traffic; predicted beside measured."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from planner.check.check_endpoint import Endpoint, check_endpoint, endpoint_url, key_of
from planner.check.check_simulator import check_on_simulator
from planner.check.check_vllm import CheckOptions, check_on_vllm
from planner.check.kernels_result import KernelsResult, render_kernels
from planner.check.render import render_check
from planner.check.result import CheckResult
from planner.commands import check_kernels
from planner.files import atomic_write_text, check_writable
from planner.plan_file import Plan
from planner.plan_io import read_plan
from planner.progress import Interrupt, Progress, interruptible, line_writer
from planner.replay import Traffic
from planner.replicas import apart
from planner.runtime.environment import find_environment
from planner.runtime.errors import EngineError
from profiles.errors import PlanningError

NOT_HELD = 1
WINDOW_S = 60.0
DRAWS = 8
LEVELS = {
    "node": ("vllm",),
    "dummy_weights": ("vllm",),
    "remeasure": ("vllm",),
    "engine_python": ("vllm", "kernels"),
    "group": ("vllm", "kernels", "endpoint"),
    "kernels": ("kernels",),
    "interference": ("kernels",),
    "workload": ("endpoint", "simulator"),
    "served_model": ("endpoint",),
    "rate": ("endpoint",),
    "trace": ("simulator",),
}
"""Options that mean something at some levels only."""


class CheckOptionError(PlanningError):
    """An option that the level of the check does not have."""


def run(arguments: argparse.Namespace) -> int:
    """Check; 0 when the plan held, 1 when it did not or an engine failed."""
    level = "endpoint" if arguments.endpoint is not None else arguments.on
    for name, levels in LEVELS.items():
        if getattr(arguments, name) and level not in levels:
            wanted = " or ".join("--endpoint" if one == "endpoint" else f"--on {one}" for one in levels)
            raise CheckOptionError(f"--{name.replace('_', '-')} is for {wanted}.")
    if arguments.output:
        check_writable(Path(arguments.output))
    path = Path(arguments.plan)
    plan = read_plan(path)
    try:
        found = CHECKS[level](plan, path.parent, arguments)
    except EngineError as error:
        sys.stderr.write(f"muxplan: {error}\n")
        return NOT_HELD
    return _told(found, arguments)


def _vllm(plan: Plan, folder: Path, arguments: argparse.Namespace) -> CheckResult:
    with interruptible("stopping the engines (Ctrl-C again ends at once)") as interrupt:
        place = (find_environment(arguments.engine_python), Path(arguments.logs).absolute())
        return check_on_vllm(apart(plan), folder, _options(arguments, interrupt), place, _progress())


def _endpoint(plan: Plan, folder: Path, arguments: argparse.Namespace) -> CheckResult:
    endpoint = Endpoint(
        url=endpoint_url(arguments.endpoint),
        workload=arguments.workload,
        served_model=arguments.served_model,
        rate_rps=arguments.rate,
        api_key=key_of(os.environ),
    )
    with interruptible("stopping: what was measured is kept (Ctrl-C again ends at once)") as interrupt:
        return check_endpoint(plan, folder, endpoint, _options(arguments, interrupt), _progress())


def _simulator(plan: Plan, folder: Path, arguments: argparse.Namespace) -> CheckResult:
    traffic = Traffic(
        draws=arguments.windows or DRAWS,
        seed=arguments.seed,
        duration_s=arguments.duration,
        trace=Path(arguments.trace) if arguments.trace else None,
        workload=arguments.workload,
    )
    return check_on_simulator(plan, folder, traffic, arguments.tolerance, _progress())


def _kernels(plan: Plan, folder: Path, arguments: argparse.Namespace) -> KernelsResult:
    return check_kernels.check(apart(plan), folder, arguments, arguments.duration or WINDOW_S, _progress())


CHECKS: Mapping[str, Callable[[Plan, Path, argparse.Namespace], CheckResult | KernelsResult]] = {
    "vllm": _vllm,
    "kernels": _kernels,
    "endpoint": _endpoint,
    "simulator": _simulator,
}


def _options(arguments: argparse.Namespace, interrupt: Interrupt) -> CheckOptions:
    return CheckOptions(
        tolerance_fraction=arguments.tolerance,
        duration_s=arguments.duration or WINDOW_S,
        windows=arguments.windows or 1,
        seed=arguments.seed,
        node=arguments.node,
        groups=tuple(arguments.group or ()),
        first_port=arguments.first_port,
        dummy_weights=arguments.dummy_weights,
        remeasure=arguments.remeasure,
        cancelled=interrupt,
    )


def _progress() -> Progress:
    return Progress(say=line_writer(sys.stderr))


def _told(found: CheckResult | KernelsResult, arguments: argparse.Namespace) -> int:
    text = found.model_dump_json(indent=2) + "\n"
    if arguments.output:
        atomic_write_text(Path(arguments.output), text)
    sys.stdout.write(text if arguments.json else _text(found))
    return 0 if found.held else NOT_HELD


def _text(found: CheckResult | KernelsResult) -> str:
    return render_kernels(found) if isinstance(found, KernelsResult) else render_check(found)
