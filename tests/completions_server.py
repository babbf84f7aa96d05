"""A completions service as vLLM's: server-sent events with token ids and a usage at the end; and its failures."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.http_server import served

Answer = Callable[["Service", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class Service:
    """Answers at once and in parallel: `first_s` to the first token, `gap_s` for each further one."""

    first_s: float = 0.02
    gap_s: float = 0.005
    key: str | None = None
    moved_to: str = "http://127.0.0.1:9"
    port: int = 0
    asked: int = 0
    keys: list[str | None] = field(default_factory=list)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked += 1
        self.keys.append(request.headers.get("Authorization"))
        if self.key is not None and self.keys[-1] != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"wrong key: {self.keys[-1]}"}}, status=401)
        return await ANSWERS.get(body["model"], missing)(self, request, body)


def event(tokens: int) -> bytes:
    chunk = {"choices": [{"text": "x" * tokens, "token_ids": [7] * tokens}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def usage(tokens: int) -> bytes:
    return b"data: " + json.dumps({"choices": [], "usage": {"completion_tokens": tokens}}).encode() + b"\n\n"


async def opened(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def streamed(service: Service, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    clock = asyncio.get_running_loop().time
    due = clock() + service.first_s
    for _ in range(body["max_tokens"]):
        await asyncio.sleep(max(0.0, due - clock()))
        await response.write(event(1))
        due += service.gap_s
    await response.write(usage(body["max_tokens"]) + b"data: [DONE]\n\n")
    return response


async def missing(_service: Service, _request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    said = {"message": f"The model `{body['model']}` does not exist.", "type": "NotFoundError", "code": 404}
    return web.json_response({"error": said}, status=404)


async def limited(_service: Service, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"error": {"message": "too many requests"}}, status=429, headers={"Retry-After": "7"})


async def limited_later(service: Service, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return await (streamed if service.asked % 3 else limited)(service, request, body)


async def elsewhere(service: Service, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": f"{service.moved_to}/v1/completions?ticket=1"})


async def at_once(_service: Service, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response({"choices": [{"text": "all of it"}], "usage": {"completion_tokens": 8}})


async def page(_service: Service, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(status=502, text="<html><body>Bad gateway</body></html>", content_type="text/html")


async def uncounted(_service: Service, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    for _ in range(body["max_tokens"]):
        await response.write(b'data: {"choices": [{"text": "x"}]}\n\n')
    await response.write(b"data: [DONE]\n\n")
    return response


async def short(_service: Service, request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(event(2) + usage(2) + b"data: [DONE]\n\n")
    return response


async def dropping(_service: Service, request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(event(1))
    assert request.transport is not None
    request.transport.abort()
    return response


async def huge(_service: Service, request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(b"data: " + b"x" * 8_000_000 + b"\n\n")
    return response


async def failing(_service: Service, request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    response = await opened(request)
    await response.write(event(1) + b'data: {"error": {"message": "engine dead"}}\n\n')
    return response


async def silent(_service: Service, _request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(60.0)
    raise AssertionError("nobody waits so long")


def broken(line: bytes) -> Answer:
    async def answer(_service: Service, request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = await opened(request)
        await response.write(event(1) + b"data: " + line + b"\n\n")
        return response

    return answer


BROKEN = (
    b'{"choices": [',
    b"[]",
    b"3",
    b'{"choices": 3}',
    b'{"choices": [7]}',
    b'{"usage": {"completion_tokens": "x"}}',
    b"\xff",
)
ANSWERS: dict[str, Answer] = {
    "tiny": streamed,
    "limited": limited,
    "limited-later": limited_later,
    "elsewhere": elsewhere,
    "at-once": at_once,
    "page": page,
    "uncounted": uncounted,
    "short": short,
    "dropping": dropping,
    "huge": huge,
    "failing": failing,
    "silent": silent,
    **{f"broken-{number}": broken(line) for number, line in enumerate(BROKEN)},
}


@contextmanager
def running(service: Service, tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """The service on a free port."""
    with served("/v1/completions", service.completions, tls) as service.port:
        yield service
