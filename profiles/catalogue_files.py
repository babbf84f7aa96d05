"""Reading the data files that ship with the package: YAML under `profiles/data/<folder>/<name>.yaml`."""

import datetime
import difflib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profiles.errors import ProfileError

SUFFIX = ".yaml"
MAX_FILE_BYTES = 1_000_000


class Provenance(BaseModel):
    """Where figures come from: who published them, when they were read, and which fields they fill."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1)
    date: datetime.date
    covers: tuple[str, ...] = ()
    note: str = ""


Data = TypeVar("Data", bound=BaseModel)


def data_names(folder: str) -> tuple[str, ...]:
    """Names (without suffix) of the data files in `profiles/data/<folder>`, sorted."""
    files = resources.files("profiles").joinpath("data", folder).iterdir()
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in files if f.name.endswith(SUFFIX)))


def load_data(folder: str, name: str, kind: type[Data]) -> Data:
    """The packaged file `<folder>/<name>.yaml` as a `kind`; ProfileError with the nearest name when there is none."""
    known = data_names(folder)
    if name not in known:
        raise unknown_name(folder, name, known)
    text = resources.files("profiles").joinpath("data", folder, name + SUFFIX).read_text(encoding="utf-8")
    return checked(parse_yaml(text, f"{folder}/{name}"), kind, f"{folder}/{name}")


def load_path(path: Path, kind: type[Data]) -> Data:
    """A YAML file of the user's as a `kind`; ProfileError when it cannot be read, is over 1 MB or does not fit."""
    return checked(read_mapping(path), kind, str(path))


def read_mapping(path: Path) -> Mapping[str, Any]:
    """The mapping that a YAML file of the user's holds; ProfileError when it cannot be read or is over 1 MB."""
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}.") from error
    if len(payload) > MAX_FILE_BYTES:
        raise ProfileError(f"{path} is over {MAX_FILE_BYTES // 10**6} MB: this is no such file.")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path} is no text: byte {error.start} is not UTF-8.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Mapping[str, Any]:
    """The mapping a YAML document holds (safe loading: plain data only); ProfileError when it is something else."""
    try:
        payload = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f"{origin} is not valid YAML: {_one_line(str(error))}.") from error
    if not isinstance(payload, dict):
        raise ProfileError(f"{origin} must hold a mapping of field names to values.")
    return payload


def checked(payload: Mapping[str, Any], kind: type[Data], origin: str) -> Data:
    """`payload` as a `kind`; ProfileError that names the first field at fault and how many more there are."""
    try:
        return kind.model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        hint = nearest(str(first["loc"][-1]), kind.model_fields) if first["type"] == "extra_forbidden" else ""
        raise ProfileError(f"{origin}: {field}: {_one_line(first['msg'])}{more}.{hint}") from error


def unknown_name(folder: str, name: str, known: Iterable[str]) -> ProfileError:
    """The error for a name that the catalogue does not have, with the nearest one it has."""
    names = tuple(known)
    hint = nearest(name, names) or f" Known: {', '.join(names)}."
    return ProfileError(f"'{name[:60]}' is not in the catalogue of {folder}.{hint}")


def nearest(name: str, known: Iterable[str]) -> str:
    """' Maybe you meant …' with the closest known name, or an empty string when nothing is close."""
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f" Maybe you meant '{lower[close[0]]}'." if close else ""


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
