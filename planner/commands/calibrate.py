"""`muxplan calibrate`: from measured runs, or a check, to what later plans and estimates take."""

import argparse
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from planner.calibrate import calibrate, remeasured_profile, with_profile
from planner.calibrate_runs import calibrate_runs, read_runs
from planner.check.result import CheckResult
from planner.files import atomic_write_yaml, check_writable
from planner.plan_io import PlanFileError, read_plan
from planner.progress import Progress
from planner.replay import planned_market
from profiles.calibration import Calibration, DeploymentTerms
from profiles.units import ms_from_s

MOST_BYTES = 50_000_000


def run(arguments: argparse.Namespace) -> int:
    """Calibrate; 0 when the file was written."""
    output, measured = Path(arguments.output), Path(arguments.measured)
    check_writable(output)
    if arguments.profile:
        check_writable(Path(arguments.profile))
    if measured.suffix == ".csv":
        if arguments.profile:
            raise PlanFileError("--profile writes the steps that a check measured: measured runs hold none.")
        found = calibrate_runs(read_runs(measured, arguments.engine), arguments.engine, measured.name)
    else:
        found = _from_check(arguments)
    atomic_write_yaml(output, found)
    if arguments.json:
        sys.stdout.write(json.dumps(found.model_dump(mode="json"), indent=2) + "\n")
        return 0
    for terms in found.terms:
        sys.stdout.write(_terms_text(terms))
    for one in found.corrections:
        sys.stdout.write(
            f"{one.gpu}, {one.quantization}, tp {one.tp}: steps take {one.step_factor:.2f} × what was predicted, a"
            f" request waits {1000 * one.request_s:+.1f} ms ({one.requests} requests)\n"
        )
    sys.stdout.write(f"{output} written: name it as calibration in the spec, or with estimate --calibration\n")
    if arguments.profile:
        sys.stdout.write(f"{arguments.profile} written: it goes with {output}; name it as the pool's gpu\n")
    return 0


def _from_check(arguments: argparse.Namespace) -> Calibration:
    if arguments.plan is None:
        raise PlanFileError(f"calibrate needs --plan PLAN beside {arguments.measured}, which is read as a check.")
    path = Path(arguments.plan)
    check = _read(Path(arguments.measured))
    plan = read_plan(path)
    if plan.spec_digest != check.spec_digest:
        raise PlanFileError(f"{arguments.measured} is a check of another plan than {path}.")
    market = planned_market(plan, path.parent, Progress())
    if arguments.profile:
        profile = remeasured_profile(check, market)
        market = with_profile(market, check)
        atomic_write_yaml(Path(arguments.profile), profile)
    return calibrate(check, market, plan.engine)


def _terms_text(one: DeploymentTerms) -> str:
    return (
        f"{one.gpu}, {one.quantization}: a step costs {ms_from_s(one.terms.overhead_s):.2f} ms beside its kernels,"
        f" those of steps with prompts take {one.terms.prefill_factor:.2f} × as long, and such steps at least"
        f" {ms_from_s(one.terms.prefill_floor_s_per_layer):.2f} ms a layer ({one.runs} runs)\n"
    )


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
