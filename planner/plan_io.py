"""Plans on disk: YAML written whole, read back safely; and as JSON."""

import json
import os
import re
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from planner.files import atomic_write_text
from planner.group_faults import faults
from planner.plan_file import Plan
from profiles.errors import PlanningError

MOST_BYTES = 50_000_000
MOST_DEPTH = 40
LINE_WIDTH = 100
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
HEAD_BYTES = 65_536
PLAN_MARK = re.compile(rb'^\s*"?termination"?\s*:', re.MULTILINE)
FILE_FIELDS = ("engine", "calibration", "gpu", "architecture", "latency_table", "capacity_table", "trace", "current")


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


def looks_like_plan(path: Path) -> bool:
    """Whether the beginning of a file names a plan's `termination`. PlanFileError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return PLAN_MARK.search(stream.read(HEAD_BYTES)) is not None
    except OSError as error:
        raise PlanFileError(f"{path} cannot be read: {error.strerror}.") from error


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
        data = _from_json(text) if text.lstrip().startswith("{") else _from_yaml(text)
        _refuse_odd(data)
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanFileError(f"{path} is not valid YAML or JSON: {' '.join(str(error).split())[:200]}.") from error
    if not isinstance(data, dict):
        raise PlanFileError(f"{path} is no plan: it holds no fields.")
    try:
        plan = Plan.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{str(part)[:60]}." for part in first["loc"][:12]).removesuffix(".")
        field = f" {place}:" if place else ""
        hint = " (is this a spec? plan it first)" if "workloads" in data and "cluster" in data else ""
        what = first["msg"].removeprefix("Value error, ")
        raise PlanFileError(f"{path}:{field} {what}{hint}.") from error
    fault = next((fault for group in plan.groups for fault in faults(group)), None)
    if fault is not None:
        raise PlanFileError(f"{path}: {' '.join(fault.split())[:300]}.")
    return plan


def _from_json(text: str) -> Any:
    return json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is given twice")
    return found


def _from_yaml(text: str) -> Any:
    _refuse_tricks(text)
    return yaml.load(text, Loader=LOADER)


def _refuse_odd(value: Any, depth: int = 0) -> None:
    """What JSON cannot say in UTF-8: the spec inside a plan has fields of any type. ValueError."""
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")
    if isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            _refuse_odd(inner, depth + 1)
    elif isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    elif not isinstance(value, int | float | None):
        raise ValueError(f"it holds a {type(value).__name__}, not plain text or numbers")


@dataclass(slots=True)
class _Level:
    """A mapping or list that the reader is inside of."""

    mapping: bool
    at_key: bool = True
    keys: set[str] = field(default_factory=set)


def _refuse_tricks(text: str) -> None:
    """Aliases, deep nesting and fields given twice, seen on the events, before anything is built. ValueError."""
    inside: list[_Level] = []
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds aliases, which no plan has")
        if isinstance(event, yaml.CollectionEndEvent):
            inside.pop()
        elif isinstance(event, yaml.NodeEvent):
            _note(inside, event)
            if isinstance(event, yaml.CollectionStartEvent):
                inside.append(_Level(mapping=isinstance(event, yaml.MappingStartEvent)))
        if len(inside) > MOST_DEPTH:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH} levels")


def _note(inside: list[_Level], event: yaml.NodeEvent) -> None:
    """A key or a value of the mapping that the reader is in: they take turns."""
    if not inside or not inside[-1].mapping:
        return
    level = inside[-1]
    if level.at_key and isinstance(event, yaml.ScalarEvent):
        if event.value in level.keys:
            raise ValueError(f"line {_line(event)}: '{event.value[:60]}' is given twice")
        level.keys.add(event.value)
    level.at_key = not level.at_key


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0
