"""`muxplan sweep`: many variants of one spec, planned on all cores; resumable."""

import argparse
import json
import sys
from pathlib import Path

from planner.files import atomic_write_text
from planner.pipeline import PlanOptions
from planner.progress import Progress, interruptible, line_writer
from planner.spec_load import load_spec
from planner.sweep import Sweep, grid, listed, parse_axis, sweep_of
from planner.sweep_journal import Journal
from planner.sweep_output import check_output, render_sweep, write_rows
from planner.sweep_plot import sweep_plot
from planner.sweep_run import LocalProcesses, Runner, run_sweep

NO_PLAN = 1
INTERRUPTED = 130


def run(arguments: argparse.Namespace) -> int:
    """Plan all variants; 0 when one of them has a plan, 1 when none has, 130 when stopped before the end."""
    output = Path(arguments.output)
    check_output(output)
    sweep = _sweep(arguments)
    progress = Progress(say=line_writer(sys.stderr))
    with Journal(output.with_name(output.name + ".journal"), sweep.key()) as journal:
        with interruptible() as interrupt:
            rows = run_sweep(sweep, journal, _runner(arguments), progress, interrupt)
        if rows is None:
            done = f"{len(journal.rows)} of {len(sweep.variants)} variants"
            sys.stderr.write(f"muxplan: stopped; {done} are kept in {journal.path}: the same command goes on.\n")
            return INTERRUPTED
        write_rows(sweep, rows, output)
        plot = output.with_suffix(".svg")
        atomic_write_text(plot, sweep_plot(sweep, rows))
        journal.remove()
    if arguments.json:
        said = {"output": str(output), "plot": str(plot), "columns": sweep.columns(), "rows": rows}
        sys.stdout.write(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_sweep(sweep, rows) + f"written to {output} and {plot}\n")
    return 0 if any(row.get("cost_usd_per_hour") is not None for row in rows) else NO_PLAN


def _sweep(arguments: argparse.Namespace) -> Sweep:
    loaded = load_spec(Path(arguments.spec))
    options = PlanOptions(
        solver=arguments.solver,
        seed=arguments.seed,
        gap_fraction=arguments.gap,
        wall_limit_s=arguments.time_limit,
    )
    if arguments.variants:
        return sweep_of(loaded, listed(Path(arguments.variants)), options)
    axes = [parse_axis(text) for text in arguments.vary]
    return sweep_of(loaded, grid(axes) if axes else (), options)


def _runner(arguments: argparse.Namespace) -> Runner:
    if not arguments.ray:
        return LocalProcesses(workers=arguments.workers)
    from planner.sweep_ray import RayCluster

    return RayCluster(address=arguments.ray_address)
