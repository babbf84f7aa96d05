"""Processes of the engine's Python that measure kernels with torch: asked by one JSON line, answering by one."""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from planner.runtime.engine_process import HOST, free_port
from planner.runtime.errors import EngineError

SCRIPT = Path(__file__).parent / "in_engine" / "kernel_worker.py"
START_S = 600.0
TOLD_BYTES = 600

Device = Literal["cuda", "cpu"]


@dataclass(slots=True, kw_only=True)
class TorchWorker:
    """One process on one device; on a processor it is bound to `cores` and has a thread on each."""

    python: Path
    device: Device
    cores: Sequence[int] = (0,)
    variables: Mapping[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = None
    _errors: Any = None

    def __enter__(self) -> "TorchWorker":
        """Start it. EngineError when it cannot be started."""
        bound = ["taskset", "-c", ",".join(map(str, self.cores))] if self.device == "cpu" else []
        self._errors = tempfile.TemporaryFile()
        try:
            # A session of its own: Ctrl-C is for us, a worker ends when its input does.
            self._process = subprocess.Popen(
                [*bound, str(self.python), str(SCRIPT), self.device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **self.variables},
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise EngineError(f"{self.python} cannot be started: {error.strerror}.") from error
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.terminate()
        self._process.wait()
        self._errors.close()

    def send(self, request: Mapping[str, Any]) -> None:
        """Ask, without waiting for the answer. EngineError when the process has died."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineError(f"the process that measures kernels died: {self._why()}") from error

    def receive(self, limit_s: float) -> dict[str, Any]:
        """The answer. EngineError when the process dies or takes longer."""
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], limit_s)[0]:
            raise EngineError(f"the process that measures kernels gave no answer in {limit_s:.0f} s: {self._why()}")
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"the process that measures kernels died: {self._why()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, request: Mapping[str, Any], limit_s: float = START_S) -> dict[str, Any]:
        """Ask and wait."""
        self.send(request)
        return self.receive(limit_s)

    def described(self) -> dict[str, Any]:
        """What the device is and the rates it reaches. EngineError when that cannot be measured."""
        found = {**self.ask({"do": "describe"}), **self.ask({"do": "rates"})}
        if "error" in found:
            raise EngineError(f"the device cannot be measured: {found['error']}.")
        return found

    def _why(self) -> str:
        """The end of what it wrote to stderr."""
        self._errors.flush()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(size - TOLD_BYTES, 0))
        text = self._errors.read().decode("utf-8", "replace").strip()
        return " ".join(text.splitlines()[-1:]) or "it said nothing."


def crew(python: Path, device: Device, ranks: int, cores: Sequence[int]) -> list[TorchWorker]:
    """Processes, not yet started, that run collectives together: one a GPU, or one a core."""
    port = str(free_port())
    shared = {"MASTER_ADDR": HOST, "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    return [
        TorchWorker(
            python=python,
            device=device,
            cores=(cores[rank % len(cores)],),
            variables={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(ranks)
    ]
