"""One engine process: started, waited for, watched and stopped; nothing of it is left whatever ends muxplan."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from planner.runtime.errors import EngineError
from profiles.units import GIB

SUPERVISOR = Path(__file__).with_name("supervisor.py")
HOST = "127.0.0.1"
READY_S = 900.0
POLL_S = 0.5
ANSWER_S = 120.0
STOP_S = 40.0
TOLD_LINES = 3
QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
KEPT_OUT = ("VLLM_CPU_KVCACHE_SPACE", "VLLM_PORT", "PYTHONPATH", "PYTHONHOME")
"""Variables of ours that would change the engine: the first one silently overrides the planned KV size."""


@dataclass(slots=True, kw_only=True)
class EngineProcess:
    """A started engine. `label` names it in messages; its output is in `log`."""

    label: str
    port: int
    log: Path
    pid: int
    _supervisor: "subprocess.Popen[str]" = field(repr=False)

    def alive(self) -> bool:
        """Whether the engine's first process runs."""
        return self._supervisor.poll() is None

    def wait_ready(self, model: str, limit_s: float = READY_S, cancelled: Callable[[], bool] = lambda: False) -> float:
        """Wait until it is healthy and has really answered; seconds waited. EngineError when it dies or takes too long.

        Health alone is no proof: some settings let an engine come up and die at its first request.
        """
        start = time.monotonic()
        while time.monotonic() - start < limit_s:
            if cancelled():
                raise EngineError(f"{self.label} was still starting when the check was cancelled.")
            if not self.alive():
                raise EngineError(f"{self.label} died at its start: {self.why()}")
            if _status(self.port, "GET", "/health", 5.0) == 200:
                self._first_answer(model)
                return time.monotonic() - start
            time.sleep(POLL_S)
        raise EngineError(f"{self.label} was not healthy after {limit_s:.0f} s: {self.why()}")

    def _first_answer(self, model: str) -> None:
        asked = json.dumps({"model": model, "prompt": [1, 2, 3], "max_tokens": 2, "ignore_eos": True})
        status = _status(self.port, "POST", "/v1/completions", ANSWER_S, asked)
        if status != 200:
            what = "did not answer" if status is None else f"answered with HTTP {status}"
            raise EngineError(f"{self.label} came up healthy but {what} at its first request: {self.why()}")

    def cpu_s(self) -> float:
        """Processor seconds that the engine's worker processes have used so far (all of its processes if none is
        called a worker)."""
        children = psutil.Process(self.pid).children(recursive=True)
        workers = [p for p in children if "Worker" in " ".join(p.cmdline())] or [psutil.Process(self.pid), *children]
        return float(sum(sum(p.cpu_times()[:2]) for p in workers))

    def why(self) -> str:
        """The last lines of its log that speak of an error, and where the log is."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        told = [line.strip() for line in lines if "Error" in line or "error:" in line][-TOLD_LINES:]
        text = " | ".join(told or [line.strip() for line in lines[-1:]])
        return f"{text[:400] or 'it said nothing'} (log: {self.log})."

    def stop(self) -> None:
        """End the engine and all it started; returns when nothing of it runs."""
        if self._supervisor.stdin and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()
        try:
            self._supervisor.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self.label} (process {self.pid}) does not end: kill it by hand.") from error
        finally:
            if self._supervisor.stdout:
                self._supervisor.stdout.close()


def start_engine(
    label: str, command: list[str], variables: Mapping[str, str], *, folder: Path, port: int, log: Path
) -> EngineProcess:
    """Start a command under its supervisor. EngineError when the port is taken or the program cannot be started."""
    check_port(label, port)
    environment = {k: v for k, v in os.environ.items() if k not in KEPT_OUT} | QUIET | dict(variables)
    supervisor = subprocess.Popen(
        [sys.executable, str(SUPERVISOR), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Ctrl-C goes to muxplan, which then stops the engines in order.
        start_new_session=True,
    )
    assert supervisor.stdin is not None and supervisor.stdout is not None
    order = {"command": command, "env": environment, "folder": str(folder)}
    supervisor.stdin.write(json.dumps(order) + "\n")
    supervisor.stdin.flush()
    answer = supervisor.stdout.readline()
    started = EngineProcess(label=label, port=port, log=log, pid=0, _supervisor=supervisor)
    if not answer:
        started.stop()
        raise EngineError(f"{label} could not be started: {started.why()}")
    started.pid = int(json.loads(answer)["pid"])
    return started


def check_port(label: str, port: int) -> None:
    """EngineError when something listens on the port already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EngineError(f"{label} needs port {port}, which is in use: see --first-port.") from error


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def check_memory(label: str, needed_bytes: int) -> None:
    """EngineError when this machine's free memory does not hold an engine (a CPU engine touches all of its KV)."""
    free = psutil.virtual_memory().available
    if needed_bytes > free:
        raise EngineError(
            f"{label} needs {needed_bytes / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB are free: not started."
        )


def _status(port: int, method: str, path: str, limit_s: float, body: str | None = None) -> int | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=limit_s)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
