"""An engine that answers its metrics but makes no more steps: a small web server that hangs stands for it."""

import socket
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from planner.check import on_engine
from planner.check.bind import Bound
from planner.check.load import CheckLoad
from planner.check.on_engine import Running, window
from planner.load.requests import Target
from planner.runtime.engine_process import start_engine
from tests.integration.test_engine_process import free_port

HANGING = """
import http.server, sys, threading, time
METRICS = b"vllm:num_requests_running 1.0\\nvllm:iteration_tokens_total_count 7.0\\n"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(METRICS)
    def do_POST(self):
        time.sleep(600)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def until_it_listens(port: int) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server never listened")


def test_an_engine_that_makes_no_step_ends_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_engine, "HANG_S", 1.0)
    monkeypatch.setattr(on_engine, "SAMPLE_S", 0.2)
    port = free_port()
    command = [sys.executable, "-c", HANGING, str(port)]
    engine = start_engine("the engine of g (m)", command, {}, folder=tmp_path, port=port, log=tmp_path / "e.log")
    try:
        running = Running(
            bound=cast(Bound, None),
            engine=engine,
            target=Target(url=f"http://127.0.0.1:{port}", model="m", vocabulary=100),
        )
        one = np.zeros(1, dtype=np.int64)
        load = CheckLoad(due_s=np.zeros(1), input_tokens=one + 4, output_tokens=one + 4, group=one, workload=one)
        until_it_listens(port)
        seen, ended = window([running], load, 1.0, 1, lambda: False)
    finally:
        engine.stop()
    assert ended == "the engine of g (m) hangs: it has requests and made no step for 1 s."
    assert not seen.counts.any() and seen.span_s == 0.0
