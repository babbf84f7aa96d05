"""A spec file to a checked spec with every name in it resolved."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from planner.spec import Spec
from planner.spec_errors import Fault, SpecError
from planner.spec_yaml import Document, FieldPath, field_name, read_document
from profiles.catalogue_files import nearest

UNIT = re.compile(r"\s*[-+]?[0-9.]+\s*[a-zA-Z/%]+\s*")
MOST_FAULTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A spec as read: the object, the document with its lines, and the folder that paths in it are relative to."""

    spec: Spec
    document: Document
    folder: Path

    def fault(self, path: FieldPath, what: str) -> Fault:
        """A fault at a field."""
        return Fault(line=self.document.line_of(path), field=field_name(path), what=what)

    def path(self, name: str) -> Path:
        """A file that the spec names."""
        return self.folder / name


def load_spec(path: Path) -> Loaded:
    """Read and check a spec file; names are not looked up yet. SpecError lists what is wrong, with lines."""
    document = read_document(path)
    return checked(document, path.parent)


def checked(document: Document, folder: Path) -> Loaded:
    """The spec of a document. SpecError with every fault of its shape."""
    if not isinstance(document.data, dict):
        raise SpecError(document.file, [Fault(line=1, field="", what="must hold fields: start with 'version: 1'.")])
    try:
        spec = Spec.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise SpecError(document.file, _faults(document, error)) from error
    return Loaded(spec=spec, document=document, folder=folder)


def spec_from_plan(data: dict[str, Any], folder: Path) -> Loaded:
    """The spec that a plan carries. SpecError when it is none."""
    return checked(Document(file="the plan's spec", data=data), folder)


def digest_of(loaded: Loaded, files: dict[str, bytes]) -> str:
    """sha256 over the spec with its defaults and over the files it names."""
    summary = hashlib.sha256()
    summary.update(json.dumps(loaded.spec.model_dump(mode="json"), sort_keys=True).encode())
    for name in sorted(files):
        summary.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return summary.hexdigest()


def _faults(document: Document, error: ValidationError) -> list[Fault]:
    found = []
    errors = error.errors()[:MOST_FAULTS]
    for one in errors:
        if _follows(one, errors):
            continue
        path = _path(document, one["loc"])
        fault = Fault(line=document.line_of(path), field=field_name(path), what=_what(one, path))
        if fault not in found:
            found.append(fault)
    return found


def _follows(one: Any, errors: Sequence[Any]) -> bool:
    """Whether a list is called too short only because its items, told apart, are wrong."""
    size = len(one["loc"])
    return one["type"] == "too_short" and any(len(e["loc"]) > size and e["loc"][:size] == one["loc"] for e in errors)


def _path(document: Document, loc: tuple[int | str, ...]) -> FieldPath:
    """pydantic's place without the parts that are tags of a union, not fields of the file."""
    path: FieldPath = ()
    for part in loc:
        trial = (*path, part)
        if trial in document.lines or part == loc[-1]:
            path = trial
    return path


def _what(error: Any, path: FieldPath) -> str:
    kind, value = error["type"], error.get("input")
    name = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        return f"there is no such field.{nearest(name, _field_names(Spec, set()))}"
    if kind == "missing":
        return "is missing."
    if isinstance(value, str) and kind.startswith(("float_", "int_")):
        if UNIT.fullmatch(value):
            return f"'{value[:40]}' has a unit: write the bare number in the unit that the field's name says."
        return f"'{value[:40]}' is text where a number is needed."
    if kind.startswith("union_tag"):
        known = error.get("ctx", {}).get("expected_tags", "")
        given = str(error.get("ctx", {}).get("tag", ""))
        return f"kind must be one of {known}.{nearest(given, known.replace(chr(39), '').split(', ')) if given else ''}"
    shown = "" if isinstance(value, dict | list) or value is None else f" (given: {str(value)[:60]})"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{message}{'' if kind == 'value_error' else shown}."


def _field_names(model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    """All field names below a model, for suggestions."""
    if model in seen:
        return []
    seen.add(model)
    names = []
    for name, info in model.model_fields.items():
        names.append(name)
        for inner in _models_in(info.annotation):
            names.extend(_field_names(inner, seen))
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for inner in get_args(annotation) for m in _models_in(inner)]
