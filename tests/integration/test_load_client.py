"""The load client against a server with known delays."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from aiohttp import web

from planner.load.client import closed_loop, open_loop
from planner.load.metrics import read_metrics
from planner.load.requests import Sending, Target, prompt_of
from tests.http_server import served

FIRST_S, GAP_S = 0.10, 0.02


@dataclass(slots=True)
class Server:
    """Answers one request at a time, FIRST_S for the first token and GAP_S for each further one; two a chunk."""

    port: int = 0
    bodies: list[dict[str, object]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if body["model"] == "broken":
            return web.Response(status=500)
        self.running += 1
        self.most = max(self.most, self.running)
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(FIRST_S)
        left, size = int(body["max_tokens"]) - (1 if body["model"] == "short" else 0), 1
        while left:
            size = min(size, left)
            chunk = {"choices": [{"text": "", "token_ids": [7] * size}]}
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            left, size = left - size, 2
            if left:
                await asyncio.sleep(GAP_S * min(size, left))
        await response.write(b"data: [DONE]\n\n")
        self.running -= 1
        return response


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    with served("/v1/completions", found.answer) as found.port:
        yield found


def sending(due_s: list[float], tokens: int = 5) -> Sending:
    count = len(due_s)
    return Sending(
        due_s=np.array(due_s),
        input_tokens=np.full(count, 12),
        output_tokens=np.full(count, tokens),
        target=np.zeros(count, dtype=np.int64),
    )


def target(server: Server, model: str = "m", key: str | None = None) -> Target:
    return Target(url=f"http://127.0.0.1:{server.port}", model=model, api_key=key, vocabulary=50)


def test_times_are_those_of_the_server_by_tokens_and_not_by_chunks(server: Server) -> None:
    answers = open_loop([target(server)], sending([0.0, 0.3, 0.6, 0.9, 1.2], tokens=5))
    assert answers.served.all() and not answers.errors
    # A busy machine makes single requests late, never early.
    assert FIRST_S <= np.min(answers.ttft_s) < FIRST_S + 0.06
    assert 0.9 * GAP_S <= np.min(answers.tpot_s) < 1.6 * GAP_S
    np.testing.assert_allclose(answers.e2e_s, answers.ttft_s + 4 * answers.tpot_s, atol=1e-9)
    assert answers.tokens.tolist() == [5] * 5
    prompts: list[list[int]] = [body["prompt"] for body in server.bodies]  # type: ignore[misc]
    assert len({tuple(p) for p in prompts}) == 5 and all(len(p) == 12 and max(p) < 50 for p in prompts)


def test_a_late_client_counts_its_lateness_as_latency(server: Server) -> None:
    # The event loop is stopped for a while by the client itself: what was due meanwhile is late, and is said to be.
    stalled: list[bool] = []

    def stall() -> bool:
        if not stalled:
            stalled.append(True)
            time.sleep(0.5)
        return False

    answers = open_loop([target(server)], sending([0.0, 0.1, 0.2]), cancelled=stall)
    assert answers.lag_s.max() > 0.25
    assert np.all(answers.ttft_s >= answers.lag_s + 0.9 * FIRST_S)


def test_a_closed_loop_keeps_its_concurrency(server: Server) -> None:
    answers = closed_loop([target(server)], sending([0.0] * 9), 3)
    assert answers.served.all()
    assert server.most == 3


def test_what_goes_wrong_is_counted_and_not_served(server: Server) -> None:
    answers = open_loop([target(server, "broken")], sending([0.0, 0.0]))
    assert answers.errors == {"HTTP 500": 2} and not answers.served.any()
    assert np.isnan(answers.ttft_s).all()
    short = open_loop([target(server, "short")], sending([0.0], tokens=4))
    assert short.errors == {"3 tokens came instead of 4": 1}
    nobody = Target(url="http://127.0.0.1:9", model="m")
    assert sum(open_loop([nobody], sending([0.0])).errors.values()) == 1


def test_nothing_more_is_sent_after_a_cancel(server: Server) -> None:
    start = time.monotonic()
    answers = open_loop([target(server)], sending([0.0, 0.1, 30.0]), cancelled=lambda: len(server.bodies) >= 2)
    assert time.monotonic() - start < 5
    assert np.isnan(answers.e2e_s[2]) and len(server.bodies) == 2


def test_what_a_cancel_cuts_off_is_neither_served_nor_failed(server: Server) -> None:
    start = time.monotonic()
    answers = open_loop([target(server)], sending([0.0, 0.0], 200), cancelled=lambda: time.monotonic() - start > 0.6)
    # Tokens had come: that does not make an answer of them.
    assert answers.tokens.max() > 0
    assert not answers.served.any() and not answers.done.any() and not answers.errors


def test_the_key_is_sent_as_a_header_only(server: Server) -> None:
    open_loop([target(server, key="s3cret")], sending([0.0]))
    assert server.keys == ["Bearer s3cret"]
    assert "s3cret" not in json.dumps(server.bodies)


def test_prompts_are_the_same_for_the_same_seed() -> None:
    assert prompt_of(1, 2, 30, 100) == prompt_of(1, 2, 30, 100) != prompt_of(1, 3, 30, 100)


def test_metrics_are_read_and_the_kv_cache_counted() -> None:
    text = (
        "# TYPE vllm:num_preemptions counter\n"
        'vllm:num_preemptions_total{engine="0"} 2\nvllm:num_preemptions_total{engine="1"} 3\n'
        "# TYPE vllm:cache_config_info gauge\n"
        'vllm:cache_config_info{block_size="128",num_gpu_blocks="256"} 1\n'
    )
    found = read_metrics(text)
    assert found.get("vllm:num_preemptions_total") == 5
    assert found.kv_tokens == 32_768
    assert found.get("no such metric") == 0.0
