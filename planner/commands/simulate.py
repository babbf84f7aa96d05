"""`muxplan simulate`: what a plan does on fresh traffic, or on a recorded trace."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from planner.plan_io import read_plan
from planner.progress import Progress, line_writer
from planner.replay import Replay, Traffic, met, replay, replay_as_data

WIDTH = 100


def run(arguments: argparse.Namespace) -> int:
    """Simulate; 0 when every workload met its target by the planning rule, 1 when one did not."""
    path = Path(arguments.plan)
    traffic = Traffic(
        draws=arguments.draws,
        seed=arguments.seed,
        duration_s=arguments.duration,
        trace=Path(arguments.trace) if arguments.trace else None,
        workload=arguments.workload,
    )
    found = replay(read_plan(path), path.parent, traffic, Progress(say=line_writer(sys.stderr)))
    if arguments.json:
        sys.stdout.write(json.dumps(replay_as_data(found), indent=2) + "\n")
    else:
        _print(found)
    return 0 if all(met(found, a.workload) for a in found.attainments) else 1


def _print(found: Replay) -> None:
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("workload", no_wrap=True)
    for column in ("requests", "attained", "target", "TTFT p50", "p99", "TPOT p50", "p99", "e2e p99 ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for attainment in found.attainments:
        workload = found.market.workloads[attainment.workload]
        seen = found.seen[workload.name]
        target = "–" if workload.best_effort else f"{workload.attainment:.2%}"
        mark = "" if met(found, attainment.workload) else " missed"
        table.add_row(
            workload.name,
            f"{seen.requests:,}",
            f"{attainment.mean:.2%}{mark}",
            target,
            *(f"{p.p50:,.0f}" if p else "–" for p in (seen.ttft_ms,)),
            *(f"{p.p99:,.0f}" if p else "–" for p in (seen.ttft_ms,)),
            *(f"{p.p50:,.1f}" if p else "–" for p in (seen.tpot_ms,)),
            *(f"{p.p99:,.1f}" if p else "–" for p in (seen.tpot_ms,)),
            f"{seen.e2e_ms.p99:,.0f}" if seen.e2e_ms else "–",
        )
    console = Console(width=WIDTH, highlight=False)
    console.print(table)
    console.print(
        f"{found.requests:,} requests in {found.simulate_s:.2f} s ({found.requests / found.simulate_s:,.0f}/s)"
    )
