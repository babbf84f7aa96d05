"""The whole loop, several times over: `python -m tests.engine.loop --engine-python PATH` (or `make loop`).

In every round the cores are profiled, a plan is made and checked, the check calibrates the next plan, and that one is
checked. Profile and check take turns, so that what else the machine does falls on both; medians over rounds are told.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.engine.pair import MODELS, SPEC, muxplan, profile, two_free_ports

ROUNDS, PASSES, SECONDS = 3, 4, 40


def main() -> int:
    """Run the rounds and print the errors; 0 when every command ran (a check may fail its tolerance)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    engine = arguments.engine_python.absolute()
    errors: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pair.yaml").write_text(SPEC)
        (folder / "again.yaml").write_text(SPEC.replace("name: cpu-pair", "name: cpu-pair\ncalibration: ./c.yaml", 1))
        for model, (like, layers, hidden) in MODELS.items():
            words = ("tiny-model", like, "-o", model, "--layers", layers, "--hidden", hidden)
            _ran(muxplan(folder, engine, *words), 0)
        for number in range(arguments.rounds):
            _ran(profile(folder, engine, PASSES), 0)
            _ran(muxplan(folder, engine, "plan", "pair.yaml", "-o", "plan.yaml"), 0)
            _check(folder, engine, ("plan.yaml", "check.json", "before calibration"), 100 + number, errors)
            _ran(muxplan(folder, engine, "calibrate", "check.json", "--plan", "plan.yaml", "-o", "c.yaml"), 0)
            _ran(muxplan(folder, engine, "plan", "again.yaml", "-o", "again.plan.yaml"), 0)
            _check(folder, engine, ("again.plan.yaml", "again.json", "after calibration"), 200 + number, errors)
    for (when, what), found in errors.items():
        rounds = ", ".join(f"{e:+.1%}" for e in found)
        sys.stdout.write(f"{when:<20} {what:<28} median |error| {np.median(np.abs(found)):6.1%}   ({rounds})\n")
    return 0


def _check(
    folder: Path, engine: Path, files: tuple[str, str, str], seed: int, errors: dict[tuple[str, str], list[float]]
) -> None:
    plan, output, when = files
    words = ("check", plan, "-o", output, "--duration", str(SECONDS), "--seed", str(seed))
    _ran(muxplan(folder, engine, *words, "--first-port", str(two_free_ports())), 0, 1)
    found = json.loads((folder / output).read_text())
    for one in found["workloads"].values():
        for what, error in one["error_fraction"].items():
            errors.setdefault((when, what), []).append(error)
    for group in found["groups"].values():
        ratio = group["worker_step_ms_measured"] / group["worker_step_ms_predicted"]
        errors.setdefault((when, "worker CPU time of a step"), []).append(ratio - 1)
        exact = float(group["kv_tokens_measured"] != group["kv_tokens_predicted"])
        errors.setdefault((when, "KV tokens"), []).append(exact)


def _ran(done: "subprocess.CompletedProcess[str]", *codes: int) -> None:
    sys.stderr.write(done.stderr)
    if done.returncode not in codes:
        raise SystemExit(f"{done.args} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
