"""`muxplan export`: writes the deployment files of a plan."""

import argparse
import json
import sys
from pathlib import Path

from planner.export.targets import exported_files, write_export, write_over
from planner.plan_io import read_plan


def run(arguments: argparse.Namespace) -> int:
    """Export; 0 when written."""
    folder = Path(arguments.output)
    plan = Path(arguments.plan)
    files, left_out = exported_files(read_plan(plan), arguments.to, plan.parent, arguments.autoscale)
    (write_over if arguments.force else write_export)(files, folder)
    if arguments.json:
        data = {"target": arguments.to, "folder": str(folder), "files": sorted(files), "left_out": list(left_out)}
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return 0
    sys.stdout.write(f"{len(files)} files for {arguments.to} written to {folder}\n")
    for name in left_out:
        sys.stdout.write(f"not exported: {name} is known only by measurement\n")
    return 0
