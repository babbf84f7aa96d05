"""Runs one engine so that nothing of it outlives whoever started it. A program of its own: `python supervisor.py LOG`.

It reads one line of JSON, {"command": […], "env": {…}, "folder": …}, starts the command with its output in LOG, and
writes {"pid": …}. When its standard input closes (the starter stopped it, ended or was killed) it ends the engine with
all its descendants, also those that left their process group: as subreaper they fall to it. It ends with the engine.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TERM_S = 20.0
KILL_S = 10.0


def main() -> int:
    """Run the engine; its exit code comes back, or 1 when it could not start."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    order = json.loads(sys.stdin.readline())
    with Path(sys.argv[1]).open("ab") as log:
        try:
            engine = subprocess.Popen(
                order["command"],
                env=order["env"],
                cwd=order["folder"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Should this supervisor itself be killed, the engine is asked to end.
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
            )
        except OSError as error:
            log.write(f"{order['command'][0]} cannot be started: {error.strerror}\n".encode())
            return 1
    sys.stdout.write(json.dumps({"pid": engine.pid}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_starter, daemon=True).start()
    code = engine.wait()
    end_descendants()
    return code if code >= 0 else 128 - code


def _end_with_starter() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    end_descendants()


def end_descendants() -> None:
    """End every process that came from this one: asked first, then killed, until none is left."""
    _signal_all(signal.SIGTERM, TERM_S)
    _signal_all(signal.SIGKILL, KILL_S)


def _signal_all(number: signal.Signals, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    asked: set[int] = set()
    while time.monotonic() < until:
        left = [process for process in psutil.Process().children(recursive=True) if _runs(process)]
        if not left:
            return
        for process in left:
            # A process that is asked to end must not be asked twice: a second SIGTERM would cut its clean-up short.
            if process.pid not in asked or number is signal.SIGKILL:
                asked.add(process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
        time.sleep(0.1)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main())
