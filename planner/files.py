"""Files are written whole or not at all: beside the target, then renamed over it."""

import os
import tempfile
from pathlib import Path

from profiles.errors import PlanningError


class OutputError(PlanningError):
    """A file cannot be written; the message says which and why."""


def atomic_write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the target holds the old content or all of the new. OutputError when it cannot."""
    try:
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        Path(beside).unlink(missing_ok=True)
