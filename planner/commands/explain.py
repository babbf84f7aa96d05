"""`muxplan explain`: why a plan is as it is, or why a spec has none."""

import argparse
import json
import sys
from pathlib import Path

from planner.explain import explain_plan, reasons_as_data, render_explanation
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.plan_io import read_plan
from planner.progress import Progress, interruptible, line_writer
from planner.spec_load import load_spec
from planner.spec_yaml import read_document


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
    data = read_document(path).data
    if isinstance(data, dict) and "termination" in data:
        return read_plan(path)
    progress = Progress(say=line_writer(sys.stderr))
    with interruptible() as interrupt:
        return plan_spec(load_spec(path), PlanOptions(seed=seed, cancelled=interrupt), progress)
