"""Files are written whole or not at all: beside the target, then renamed over it."""

import os
import tempfile
from pathlib import Path

import yaml
from pydantic import BaseModel

from profiles.errors import PlanningError


class OutputError(PlanningError):
    """A file cannot be written; the message says which and why."""


def check_writable(path: Path) -> None:
    """OutputError when a file cannot stand there: no folder, or something that is no plain file (a rename would
    replace a device)."""
    try:
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} cannot be written: it is not a plain file.")
        if not path.parent.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def atomic_write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the target holds the old content or all of the new. OutputError when it cannot."""
    check_writable(path)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OutputError(f"{path} cannot be written: the text holds characters that UTF-8 has not.") from error
    atomic_write_bytes(path, data)


def atomic_write_yaml(path: Path, data: BaseModel) -> None:
    """Write a model's fields as YAML, in their order. OutputError when it cannot."""
    atomic_write_text(path, yaml.safe_dump(data.model_dump(mode="json"), sort_keys=False))


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write bytes so that the target holds the old content or all of the new. OutputError when it cannot."""
    check_writable(path)
    try:
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        Path(beside).unlink(missing_ok=True)
