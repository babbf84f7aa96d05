"""`muxplan calibrate`: corrections for the next plan from a check."""

import argparse
import json
import sys
from pathlib import Path

import yaml
from pydantic import ValidationError

from planner.calibrate import calibrate, remeasured_profile, with_profile
from planner.check.result import CheckResult
from planner.files import atomic_write_text, check_writable
from planner.plan_io import PlanFileError, read_plan
from planner.progress import Progress
from planner.replay import planned_market

MOST_BYTES = 50_000_000


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; 0 when the file was written."""
    output, path = Path(arguments.output), Path(arguments.plan)
    check_writable(output)
    if arguments.profile:
        check_writable(Path(arguments.profile))
    check = _read(Path(arguments.check))
    plan = read_plan(path)
    if plan.spec_digest != check.spec_digest:
        raise PlanFileError(f"{arguments.check} is a check of another plan than {path}.")
    market = planned_market(plan, path.parent, Progress())
    if arguments.profile:
        profile = remeasured_profile(check, market)
        market = with_profile(market, check)
        atomic_write_text(Path(arguments.profile), yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False))
    found = calibrate(check, market, plan.engine)
    atomic_write_text(output, yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False))
    if arguments.json:
        sys.stdout.write(json.dumps(found.model_dump(mode="json"), indent=2) + "\n")
        return 0
    for one in found.corrections:
        sys.stdout.write(
            f"{one.gpu}, {one.quantization}, tp {one.tp}: steps take {one.step_factor:.2f} × what was predicted, a"
            f" request waits {1000 * one.request_s:+.1f} ms ({one.requests} requests)\n"
        )
    sys.stdout.write(f"{output} written: name it as calibration in the spec, and plan again\n")
    if arguments.profile:
        sys.stdout.write(f"{arguments.profile} written: it goes with {output}; name it as the pool's gpu\n")
    return 0


def _read(path: Path) -> CheckResult:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise PlanFileError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB: that is no check.")
        return CheckResult.model_validate_json(raw)
    except OSError as error:
        raise PlanFileError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part)[:60] for part in first["loc"][:8])
        raise PlanFileError(f"{path} is no result of muxplan check: {place}: {first['msg']}.") from error
