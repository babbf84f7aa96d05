"""What long work has finished so far, on disk: one line a row, each durable before the next work is given out."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from planner.files import OutputError


class Journal:
    """The finished rows of one task (a sweep, a profile), by their number; open it with `with`.

    OutputError when another process holds the file or began it with another key.
    """

    def __init__(self, path: Path, key: str, task: str = "sweep") -> None:
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        self._key = key
        self._task = task
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            stream = self.path.open("a+b")
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error
        try:
            self._lock(stream)
            self._take_up(stream)
        except BaseException:
            stream.close()
            raise
        self._stream = stream
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, index: int, row: dict[str, Any]) -> None:
        """Keep a row: once this returns, it outlives the program and the machine's power."""
        self._append({"index": index, "row": row})
        self.rows[index] = row

    def remove(self) -> None:
        """Delete the file: its rows stand in the output."""
        self.path.unlink(missing_ok=True)

    def _lock(self, stream: IO[bytes]) -> None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{self.path} is in use: another {self._task} is writing the same output.") from error

    def _take_up(self, stream: IO[bytes]) -> None:
        stream.seek(0)
        whole = 0
        for number, line in enumerate(stream):
            if not line.endswith(b"\n"):
                break  # cut off when the program was killed
            self._read(number, line)
            whole += len(line)
        stream.truncate(whole)
        self._stream = stream
        if not whole:
            self._append({self._task: self._key})

    def _read(self, number: int, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if number == 0:
                same = entry[self._task] == self._key
            else:
                self.rows[int(entry["index"])] = dict(entry["row"])
                same = True
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.path}, line {number + 1}: this is no journal of a {self._task}; delete it."
            ) from error
        if not same:
            raise OutputError(
                f"{self.path} was begun with other input or other options: delete it, or choose another output."
            )

    def _append(self, entry: dict[str, Any]) -> None:
        if self._stream is None:
            raise ValueError("the journal is not open")
        self._stream.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
