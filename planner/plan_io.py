"""Plans on disk: YAML written whole, read back safely; and as JSON."""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from planner.files import atomic_write_text
from planner.plan_file import Plan
from profiles.errors import PlanningError

MOST_BYTES = 50_000_000
LINE_WIDTH = 100
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
FILE_FIELDS = ("architecture", "latency_table", "capacity_table", "trace", "current")


class PlanFileError(PlanningError):
    """A plan file cannot be read; the message says which field is wrong."""


def plan_to_yaml(plan: Plan) -> str:
    """The plan as YAML, without timings: equal plans give equal text."""
    data = plan.model_dump(mode="json", exclude={"wall_s"})
    return str(yaml.dump(data, Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=LINE_WIDTH))


def plan_to_json(plan: Plan) -> str:
    """The plan as one JSON object, with `wall_s` if it has one."""
    return json.dumps(plan.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def write_plan(plan: Plan, path: Path, spec_folder: Path) -> None:
    """Write a plan whole or not at all; files that its spec names are told relative to the plan's own folder."""
    moved = plan.model_copy(update={"spec": _rebased(plan.spec, spec_folder, path.parent)})
    atomic_write_text(path, plan_to_yaml(moved))


def _rebased(value: Any, old: Path, new: Path) -> Any:
    if isinstance(value, dict):
        return {k: _moved(k, v, old, new) for k, v in value.items()}
    return [_rebased(v, old, new) for v in value] if isinstance(value, list) else value


def _moved(name: str, value: Any, old: Path, new: Path) -> Any:
    if name in FILE_FIELDS and isinstance(value, str) and (old / value).is_file():
        return os.path.relpath((old / value).resolve(), new.resolve())
    return _rebased(value, old, new)


def read_plan(path: Path) -> Plan:
    """The plan of a file (YAML or JSON). PlanFileError when it is missing, too large, malformed, or no plan."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise PlanFileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(raw) > MOST_BYTES:
        raise PlanFileError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB: that is no plan.")
    try:
        text = raw.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=LOADER)):
            raise PlanFileError(f"{path} holds YAML aliases, which no plan has.")
        data = yaml.load(text, Loader=LOADER)
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanFileError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(data, dict):
        raise PlanFileError(f"{path} is no plan: it holds no fields.")
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        hint = " (is this a spec? plan it first)" if "workloads" in data and "cluster" in data else ""
        raise PlanFileError(f"{path}: {field}: {first['msg']}{hint}.") from error
