"""Engine processes that really run, without an engine: a small web server stands where vLLM would."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from planner.runtime.engine_process import EngineProcess, check_memory, start_engine
from planner.runtime.errors import EngineError

# Leaves its process group and starts a child there, as an engine's workers may.
STRAY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("stray", child.pid, flush=True)
time.sleep(600)
"""
SERVER = """
import http.server, json, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep({health_s})
        self.send_response({health}); self.end_headers()
    def do_POST(self):
        if {dies}: import os; print("RuntimeError: worker lost", flush=True); os._exit(3)
        self.send_response(200); self.end_headers(); self.wfile.write(b"{{}}")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STARTER = """
import sys, time
from pathlib import Path
from planner.runtime.engine_process import start_engine
command, port, log = [sys.executable, "-c", sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3])
engine = start_engine("e", command, {}, folder=Path("."), port=port, log=log)
print(engine.pid, flush=True)
time.sleep(600)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def started(folder: Path, code: str, port: int | None = None) -> EngineProcess:
    port = port or free_port()
    command = [sys.executable, "-c", code, str(port)]
    return start_engine("the engine of g (m)", command, {}, folder=folder, port=port, log=folder / "e.log")


def server(*, health: int = 200, dies: bool = False, health_s: float = 0.0) -> str:
    return SERVER.format(health=health, dies=dies, health_s=health_s)


def stray_pid(log: Path) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        words = log.read_text().split() if log.exists() else []
        if len(words) == 2:
            return int(words[1])
        time.sleep(0.05)
    raise AssertionError("the stray process never came up")


def gone(pid: int, within_s: float = 30.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_an_engine_that_answers_is_ready_and_stops_with_all_its_children(tmp_path: Path) -> None:
    engine = started(tmp_path, server())
    assert engine.wait_ready("m", limit_s=30) < 30
    engine.stop()
    assert gone(engine.pid)


def test_children_that_left_the_process_group_are_stopped_too(tmp_path: Path) -> None:
    engine = started(tmp_path, STRAY)
    stray = stray_pid(tmp_path / "e.log")
    engine.stop()
    assert gone(engine.pid) and gone(stray)


def test_nothing_is_left_when_the_starter_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "e.log"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, STRAY, str(free_port()), str(log)], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    engine, stray = int(starter.stdout.readline()), stray_pid(log)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    assert gone(engine) and gone(stray)


def test_an_engine_that_dies_at_its_start_says_why(tmp_path: Path) -> None:
    engine = started(tmp_path, "raise SystemExit('ValueError: no such model')")
    with pytest.raises(
        EngineError, match=r"the engine of g \(m\) died at its start: ValueError: no such model .*e\.log"
    ):
        engine.wait_ready("m", limit_s=30)
    engine.stop()


def test_health_is_no_proof_until_it_answered(tmp_path: Path) -> None:
    engine = started(tmp_path, server(dies=True))
    with pytest.raises(
        EngineError, match="came up healthy but did not answer at its first request: RuntimeError: worker lost"
    ):
        engine.wait_ready("m", limit_s=30)
    engine.stop()


def test_an_engine_that_is_never_healthy_is_given_up(tmp_path: Path) -> None:
    engine = started(tmp_path, server(health=503))
    with pytest.raises(EngineError, match="was not healthy after 2 s"):
        engine.wait_ready("m", limit_s=2)
    engine.stop()
    assert gone(engine.pid)


def test_a_health_check_that_hangs_does_not_hang_the_wait(tmp_path: Path) -> None:
    engine = started(tmp_path, server(health_s=60))
    start = time.monotonic()
    with pytest.raises(EngineError, match="was not healthy"):
        engine.wait_ready("m", limit_s=2)
    assert time.monotonic() - start < 20
    engine.stop()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        with pytest.raises(EngineError, match=rf"needs port {port}, which is in use: see --first-port"):
            started(tmp_path, server(), port)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started"):
        start_engine("e", ["no-such-program"], {}, folder=tmp_path, port=free_port(), log=tmp_path / "e.log")


def test_memory_is_looked_at_before_a_start() -> None:
    check_memory("e", 1)
    with pytest.raises(EngineError, match=r"e needs 1048576\.0 GiB of memory and .* are free: not started"):
        check_memory("e", 2**50)


def test_a_waiting_start_can_be_cancelled(tmp_path: Path) -> None:
    engine = started(tmp_path, server(health=503))
    with pytest.raises(EngineError, match="was still starting when the check was cancelled"):
        engine.wait_ready("m", limit_s=30, cancelled=lambda: True)
    engine.stop()


def test_variables_that_would_change_the_engine_are_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    engine = started(tmp_path, "import json, os; print(json.dumps(dict(os.environ)), flush=True); input()")
    until = time.monotonic() + 20
    while not (tmp_path / "e.log").read_text().strip() and time.monotonic() < until:
        time.sleep(0.05)
    found = json.loads((tmp_path / "e.log").read_text().splitlines()[0])
    assert "VLLM_CPU_KVCACHE_SPACE" not in found
    engine.stop()
