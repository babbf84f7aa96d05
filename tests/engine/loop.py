"""The whole loop, several times over: `make loop`.

The cores are profiled and a plan is made. In every round the plan is checked, the check calibrates the next plan, and
that one is checked. Steps are measured again between the windows of traffic, so that what else the machine does falls
on both sides of the comparison. In the end both models are put on one core. Medians over rounds and workloads are told.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.engine.pair import MODELS, SPEC, muxplan, on_one_core, profile, two_free_ports

PASSES, WINDOWS, SECONDS = 2, 4, 20
Errors = dict[tuple[str, str], list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A folder with the models and specs, the engine's Python, and what came out so far."""

    folder: Path
    engine: Path
    errors: Errors = field(default_factory=dict)

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> None:
        """Run a command of muxplan; SystemExit when it ends otherwise."""
        _ran(muxplan(self.folder, self.engine, *words, limit_s=1200.0), *codes)

    def check(self, plan: str, seed: int, *words: str) -> dict[str, Any]:
        """Check a plan (which may fail its tolerance): what was found."""
        options = ("--duration", str(SECONDS), "--seed", str(seed), "--first-port", str(two_free_ports()))
        self.run("check", plan, "-o", "check.json", *options, *words, codes=(0, 1))
        found: dict[str, Any] = json.loads((self.folder / "check.json").read_text())
        if found["ended"]:
            raise SystemExit(found["ended"])
        return found

    def note(self, when: str, what: str, value: float) -> None:
        self.errors.setdefault((when, what), []).append(value)


def main() -> int:
    """Run the rounds and print the errors; 0 when every command ran (a check may fail its tolerance)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine-python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        loop = Loop(folder=Path(name), engine=arguments.engine_python.absolute())
        try:
            _prepare(loop)
            for number in range(arguments.rounds):
                _round(loop, number)
            _share(loop)
        finally:
            _tell(loop)
    return 0


def _tell(loop: Loop) -> None:
    for (when, what), found in loop.errors.items():
        rounds = ", ".join(f"{e:+.1%}" for e in found)
        sys.stdout.write(f"{when:<20} {what:<28} median {np.median(found):+7.1%}   ({rounds})\n")


def _prepare(loop: Loop) -> None:
    (loop.folder / "pair.yaml").write_text(SPEC)
    again = SPEC.replace("name: cpu-pair", "name: cpu-pair\ncalibration: ./calibration.yaml", 1)
    (loop.folder / "again.yaml").write_text(again.replace("./cpu.yaml", "./again.cpu.yaml"))
    for model, (like, layers, hidden) in MODELS.items():
        loop.run("tiny-model", like, "-o", model, "--layers", layers, "--hidden", hidden)
    _ran(profile(loop.folder, loop.engine, PASSES), 0)
    loop.run("plan", "pair.yaml", "-o", "plan.yaml")


def _round(loop: Loop, number: int) -> None:
    words = ("--windows", str(WINDOWS), "--remeasure")
    _noted(loop, loop.check("plan.yaml", 100 + 10 * number, *words), "before calibration")
    loop.run("calibrate", "check.json", "--plan", "plan.yaml", "-o", "calibration.yaml", "--profile", "again.cpu.yaml")
    loop.run("plan", "again.yaml", "-o", "again.plan.yaml")
    _noted(loop, loop.check("again.plan.yaml", 200 + 10 * number, *words), "after calibration")


def _noted(loop: Loop, found: dict[str, Any], when: str) -> None:
    for name, one in found["workloads"].items():
        for what, error in one["remeasured"]["error_fraction"].items():
            loop.note(when, f"{name}: {what}", error)
    for group in found["groups"].values():
        ratio = group["worker_step_ms_measured"] / group["worker_step_ms_remeasured"]
        loop.note(when, f"{group['model']}: worker CPU time", ratio - 1)
        loop.note(when, f"{group['model']}: KV tokens", group["kv_tokens_measured"] / group["kv_tokens_predicted"] - 1)
        loop.note(when, f"{group['model']}: load", busy_fraction(group["requests"]))


def busy_fraction(requests: dict[str, Any]) -> float:
    """The share of the time, from the first request to the last answer, in which the engine had a request."""
    inside = sorted(
        (due, due + first + (gap or 0.0) * (tokens - 1))
        for due, first, gap, tokens in zip(
            requests["due_s"], requests["ttft_s"], requests["tpot_s"], requests["output_tokens"], strict=True
        )
        if first is not None
    )
    # The gaps between windows, in which nothing was sent, do not count.
    busy, idle, until = 0.0, 0.0, inside[0][0]
    for start, end in inside:
        gap = start - until
        idle += gap if 0.0 < gap < SECONDS else 0.0
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / (busy + idle)


def _share(loop: Loop) -> None:
    """Both engines on one core: what that costs."""
    on_one_core(loop.folder)
    found = loop.check("shared.plan.yaml", 300, "--windows", "2")
    for group in found["groups"].values():
        loop.note("on one core", f"{group['model']}: TPOT, slower by", group["slowdown"]["tpot_factor"] - 1)
        loop.note("on one core", f"{group['model']}: TTFT, slower by", group["slowdown"]["ttft_factor"] - 1)


def _ran(done: "subprocess.CompletedProcess[str]", *codes: int) -> None:
    sys.stderr.write(done.stderr)
    if done.returncode not in codes:
        raise SystemExit(f"{done.args} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
