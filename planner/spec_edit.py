"""A spec with some fields changed, each named by its path: `workloads.chat.traffic.rate_rps`, `constraints[0].count`.

Items of a list go by their name, by `[index]`, or all together by `*`. A value `x1.5` multiplies what is there.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.spec_load import Loaded, checked
from planner.spec_yaml import Document
from profiles.catalogue_files import nearest
from profiles.errors import PlanningError

FACTOR = re.compile(r"x([0-9]+(\.[0-9]*)?|\.[0-9]+)")
KEY = re.compile(r"[^.\[]*")
INDEX = re.compile(r"\[([0-9]+)\](?=[.\[]|$)")
ALL = re.compile(r"\*(?=\.|$)")


class FieldPathError(PlanningError):
    """A path names no field of the spec, or a value does not fit there; the message says the nearest name."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field: what holds it, and its key or index there."""

    holder: Any
    key: str | int

    @property
    def value(self) -> Any:
        """What stands there now."""
        return self.holder[self.key]


def with_changes(loaded: Loaded, changes: Mapping[str, Any]) -> Loaded:
    """The spec with the fields at these paths set, checked again.

    FieldPathError for a path that is not there, SpecError for a value that its field does not take.
    """
    data = loaded.spec.model_dump(mode="json")
    for path, value in changes.items():
        _set(data, path, value)
    said = ", ".join(f"{path}={value}" for path, value in changes.items())
    # What is not changed still stands on its line.
    document = Document(file=f"{loaded.document.file} with {said[:200]}", data=data, lines=loaded.document.lines)
    return checked(document, loaded.folder)


def field_values(loaded: Loaded, path: str) -> list[Any]:
    """What stands at a path now: one value, or one an item where it holds `*`. FieldPathError for none."""
    return [place.value for place in _places(loaded.spec.model_dump(mode="json"), path, path)]


def _set(data: Any, path: str, value: Any) -> None:
    places = list(_places(data, path, path))
    factor = FACTOR.fullmatch(value) if isinstance(value, str) else None
    if factor is None:
        for place in places:
            # One object a place: a later change of one must not reach the others.
            place.holder[place.key] = copy.deepcopy(value)
        return
    scaled = [place for place in places if _is_number(place.value)]
    if not scaled:
        raise FieldPathError(f"{path}={value}: there is no number to multiply; give the value itself.")
    for place in scaled:
        place.holder[place.key] = _times(place.value, float(factor.group(1)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _times(value: float, factor: float) -> float:
    """Counts stay whole."""
    return round(value * factor) if isinstance(value, int) else value * factor


def _places(node: Any, rest: str, path: str) -> Iterator[Place]:
    for key, after in _steps(node, rest, path):
        if after:
            yield from _places(node[key], after.removeprefix("."), path)
        else:
            yield Place(node, key)


def _steps(node: Any, rest: str, path: str) -> list[tuple[str | int, str]]:
    """The keys that the path goes to next, each with the part of the path after it."""
    if isinstance(node, dict):
        key = KEY.match(rest)
        name = key.group() if key else ""
        if name not in node:
            raise FieldPathError(f"{path[:200]}: the spec has no field '{name[:60]}' there.{nearest(name, node)}")
        return [(name, rest[len(name) :])]
    if not isinstance(node, list):
        where = path[: len(path) - len(rest)].rstrip(".")
        raise FieldPathError(f"{path[:200]}: the spec gives no fields in {where[:200]}; set that as a whole.")
    return _items(node, rest, path)


def _items(node: list[Any], rest: str, path: str) -> list[tuple[str | int, str]]:
    if ALL.match(rest):
        return [(i, rest[1:]) for i in range(len(node))]
    index = INDEX.match(rest)
    if index is not None and int(index.group(1)) < len(node):
        return [(int(index.group(1)), rest[index.end() :])]
    # Names may hold dots: the longest one that fits is meant.
    names = {item["name"]: i for i, item in enumerate(node) if isinstance(item, dict) and "name" in item}
    fitting = [n for n in names if rest == n or rest.startswith((f"{n}.", f"{n}["))]
    if not fitting:
        given = rest.split(".")[0][:60]
        known = nearest(given, names) or f" There are: {', '.join(names) or f'[0] to [{len(node) - 1}]'}."
        raise FieldPathError(f"{path[:200]}: the spec has no item '{given}' there.{known}")
    name = max(fitting, key=len)
    return [(names[name], rest[len(name) :])]
