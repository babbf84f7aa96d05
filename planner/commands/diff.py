"""`muxplan diff`: what changes from one plan to another."""

import argparse
import json
import sys
from pathlib import Path

from planner.diff import changes_as_data, diff_plans, render_diff
from planner.plan_io import read_plan


def run(arguments: argparse.Namespace) -> int:
    """Print the changes; 0 whether there are any or not."""
    changes = diff_plans(read_plan(Path(arguments.old)), read_plan(Path(arguments.new)))
    if arguments.json:
        sys.stdout.write(json.dumps(changes_as_data(changes), indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_diff(changes))
    return 0
