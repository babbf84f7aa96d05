"""The one folder that the pages may read: names of files come from there, and nothing outside is opened."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.plan_io import looks_like_plan
from profiles.errors import PlanningError

MOST_FILES = 200
MOST_UPLOAD_BYTES = 4_000_000
SPEC_SUFFIXES = (".yaml", ".yml", ".json")
TABLE_SUFFIXES = (".csv", ".gz")
LONGEST_NAME = 1024
SPEC_MARKS = (b"cluster:", b'"cluster"')
INTERFERENCE_MARKS = (b"first_slowdown:", b'"first_slowdown"')


class WorkspaceError(PlanningError):
    """A file lies outside the workspace, or is not one that the pages take."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder. Files are listed from it and from one level below."""

    folder: Path

    def files(self, *, plans: bool) -> list[str]:
        """Names of the spec files (or plan files), relative to the folder, in order; at most 200."""
        return self._named(
            path
            for path in self._candidates()
            if looks_like_plan(path) is plans and (plans or _holds(path, SPEC_MARKS))
        )

    def interference_files(self) -> list[str]:
        """Names of the files of measured interference, in order; at most 200."""
        return self._named(path for path in self._candidates() if _holds(path, INTERFERENCE_MARKS))

    def path(self, name: str) -> Path:
        """A file of the workspace by its relative name. WorkspaceError when it lies elsewhere."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise WorkspaceError(f"{name[:100]} lies outside the workspace {self.folder}.")
        return path

    def _named(self, paths: Iterable[Path]) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)[:MOST_FILES]

    def _candidates(self) -> Iterator[Path]:
        for pattern in ("*", "*/*"):
            for path in sorted(self.folder.glob(pattern))[: 10 * MOST_FILES]:
                hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
                if path.suffix in SPEC_SUFFIXES and path.is_file() and not hidden:
                    yield path


def _holds(path: Path, marks: Sequence[bytes]) -> bool:
    with path.open("rb") as stream:
        head = stream.read(MOST_UPLOAD_BYTES)
    return any(mark in head for mark in marks)


def guard(data: Any, folder: Path, root: Path) -> None:
    """WorkspaceError when a text anywhere in a spec, read as a file's name in `folder`, leads out of `root`."""
    inside = root.resolve()
    for text in _texts(data):
        if len(text) <= LONGEST_NAME and "\0" not in text and not (folder / text).resolve().is_relative_to(inside):
            raise WorkspaceError(f"'{text[:100]}' names a file outside the workspace: copy it there.")


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, Sequence):
        for value in data:
            yield from _texts(value)


def store_upload(folder: Path, name: str, content: bytes, suffixes: Sequence[str]) -> Path:
    """An uploaded file written into a session's own folder under its bare name.

    WorkspaceError for another kind of file or one that is too large.
    """
    bare = Path(name.replace("\\", "/")).name
    if Path(bare).suffix not in suffixes or bare.startswith("."):
        raise WorkspaceError(f"{bare[:80]} is none of {', '.join(suffixes)}.")
    if len(content) > MOST_UPLOAD_BYTES:
        raise WorkspaceError(f"{bare[:80]} is larger than {MOST_UPLOAD_BYTES // 1_000_000} MB.")
    path = folder / bare
    # Every run of a page stores its uploads again, perhaps while a job reads them: never half a file.
    beside = folder / f".{bare}.{threading.get_ident()}"
    beside.write_bytes(content)
    beside.replace(path)
    return path
