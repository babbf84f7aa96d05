"""`muxplan explain`: why a plan is as it is, or why a spec has none."""

import argparse
import json
import sys
from pathlib import Path

from planner.explain import explain_plan, reasons_as_data, render_explanation
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.plan_io import looks_like_plan, read_plan
from planner.progress import Progress, interruptible, line_writer
from planner.spec_load import load_spec


def run(arguments: argparse.Namespace) -> int:
    """Explain; 0 with a plan, 1 where there is none."""
    plan = _plan(Path(arguments.file), arguments.seed)
    if arguments.json:
        data = {
            "termination": plan.termination,
            "workloads": reasons_as_data(explain_plan(plan)),
            "conflicts": list(plan.conflicts),
            "relaxations": [r.model_dump(mode="json") for r in plan.relaxations],
            "slack": [s.model_dump(mode="json") for s in plan.slack],
        }
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_explanation(plan))
    return 0 if plan.groups else 1


def _plan(path: Path, seed: int) -> Plan:
    """The plan of a plan file, or the one that a spec file leads to."""
    if looks_like_plan(path):
        return read_plan(path)
    progress = Progress(say=line_writer(sys.stderr))
    with interruptible() as interrupt:
        return plan_spec(load_spec(path), PlanOptions(seed=seed, cancelled=interrupt), progress)
