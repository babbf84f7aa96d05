"""`muxplan profile interference`: pairs of kernels that share this machine's device."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from planner.files import atomic_write_yaml, check_writable
from planner.profile_interference import Settings, profile_interference
from planner.progress import Progress, interruptible, line_writer
from planner.runtime.environment import find_torch
from planner.runtime.errors import EngineError
from profiles.interference import Interference, Sharing

FAILED = 1
DEFAULT_SHARING: Mapping[str, tuple[Sharing, ...]] = {"cuda": ("streams",), "cpu": ("cores",)}


def run(arguments: argparse.Namespace) -> int:
    """Measure; 0 when the file was written, 1 when the kernels could not be measured."""
    output = Path(arguments.output)
    check_writable(output)
    settings = Settings(
        python=find_torch(arguments.engine_python),
        device=arguments.device,
        sharing=tuple(arguments.sharing) or DEFAULT_SHARING[arguments.device],
        cores=tuple(arguments.cores),
        shares=tuple(arguments.shares),
        window_s=arguments.window,
        passes=arguments.passes,
        gpu=arguments.gpu,
    )
    with interruptible("stopping (Ctrl-C again ends at once)") as interrupt:
        try:
            found = profile_interference(settings, Progress(say=line_writer(sys.stderr)), interrupt)
        except EngineError as error:
            sys.stderr.write(f"muxplan: {error}\n")
            return FAILED
    atomic_write_yaml(output, found)
    sys.stdout.write(found.model_dump_json(indent=2) + "\n" if arguments.json else _text(found, output))
    return 0


def _text(found: Interference, output: Path) -> str:
    model = found.contention
    lines = [f"{output}: {found.device}, {len(found.pairs)} pairs of {len(found.loads)} loads"]
    for pair in found.pairs:
        lines.append(
            f"  {pair.first} × {pair.first_slowdown:.2f} beside {pair.second} × {pair.second_slowdown:.2f}"
            f" (spread {pair.spread_fraction:.0%})"
        )
    weights = ", ".join(f"{term} {weight:.3f}" for term, weight in model.weights.items())
    lines.append(f"contention model: {weights}")
    lines.append(
        f"on pairs left out of the fit it is {model.held_out_median_error_fraction:.1%} off"
        f" (median; p90 {model.held_out_p90_error_fraction:.1%})"
    )
    return "\n".join((*lines, ""))
