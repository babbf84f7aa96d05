"""The load client: open loop by arrival times, or closed loop by concurrency, over the OpenAI API with streaming.

Latencies count from the moment a request was due, sent or not (no coordinated omission); how late the client itself was
is measured beside, so that a client that cannot keep up is seen as that.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from aiohttp.http_exceptions import HttpProcessingError

from planner.load.requests import Answers, FloatArray, Sending, Target, body_of, prompt_of
from planner.load.stream import SAID_BYTES, SAID_LENGTH, fault, read_chunk, refusal, said

ANSWER_LIMIT_S = 600.0
MOST_CONNECTIONS = 4096
STREAM = "text/event-stream"
LOOK_S = 0.2
"""How often a waiting client looks whether it was cancelled."""
SPIN_S = 0.002
"""The event loop's timers are late by about this much: the last bit is waited for in short steps."""


@dataclass(slots=True, kw_only=True)
class _Record:
    due_s: float
    lag_s: float = float("nan")
    first_s: float = float("nan")
    last_s: float = float("nan")
    tokens: int = 0
    counted: bool = False
    done: bool = False
    """Answered to the end, or failed: not under way when the load was cancelled."""
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class _Run:
    """One load in progress."""

    targets: Sequence[Target]
    sending: Sending
    seed: int
    session: aiohttp.ClientSession
    cancelled: Callable[[], bool]
    limit_s: float
    said: dict[str, str] = field(default_factory=dict)
    """What a server said with the first refusal of a kind."""
    records: list[_Record] = field(default_factory=list)
    started_s: float = 0.0

    def now(self) -> float:
        return asyncio.get_running_loop().time() - self.started_s

    async def one(self, number: int) -> None:
        """Send one request and read its answer; what goes wrong is kept with it."""
        record = self.records[number]
        target = self.targets[int(self.sending.target[number])]
        asked = int(self.sending.output_tokens[number])
        prompt = prompt_of(self.seed, number, int(self.sending.input_tokens[number]), target.vocabulary)
        record.lag_s = self.now() - record.due_s
        headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        try:
            async with self.session.post(
                f"{target.url}/v1/completions",
                json=body_of(target, prompt, asked),
                headers=headers,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    record.error = await self._refusal(response, target.api_key)
                else:
                    async for line in response.content:
                        self._read(record, line)
                    record.error = record.error or _lack(record, asked, response.content_type)
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError, ValueError) as error:
            record.error = fault(error, self.limit_s)
        record.done = True

    async def _refusal(self, response: aiohttp.ClientResponse, secret: str | None) -> str:
        what = refusal(response.status, _place(response.headers.get("Location")))
        self.said.setdefault(what, said(await response.content.read(SAID_BYTES), secret))
        return what

    def _read(self, record: _Record, line: bytes) -> None:
        chunk = read_chunk(line)
        if chunk is None:
            return
        if chunk.failed:
            record.error = "the server broke the stream off with an error"
        if chunk.tokens:
            record.last_s = self.now()
            if np.isnan(record.first_s):
                record.first_s = record.last_s
            record.tokens += chunk.tokens
        if chunk.total_tokens is not None:
            record.tokens = chunk.total_tokens
        record.counted |= chunk.counted or chunk.total_tokens is not None

    async def wait_until(self, due_s: float) -> None:
        """Wait until a request is due, or until the load is cancelled."""
        while (rest := due_s - self.now()) > SPIN_S:
            if self.cancelled():
                return
            await asyncio.sleep(min(rest - SPIN_S, LOOK_S))
        while self.now() < due_s:
            await asyncio.sleep(0)


def _lack(record: _Record, asked: int, kind: str) -> str | None:
    """What is missing in an answer that came to its end; None when it is whole."""
    if not record.tokens:
        return "no tokens came" if kind == STREAM else f"the answer is {kind}, not a stream"
    if not record.counted:
        return "neither usage nor token ids came: tokens cannot be counted"
    return None if record.tokens == asked else f"{record.tokens} tokens came instead of {asked}"


def _place(location: str | None) -> str | None:
    """Where a redirect leads, without what its query may hold."""
    return "".join(c for c in location.split("?")[0] if c.isprintable())[:SAID_LENGTH] if location else None


def open_loop(
    targets: Sequence[Target], sending: Sending, *, seed: int = 0, cancelled: Callable[[], bool] = lambda: False
) -> Answers:
    """Send every request when it is due, however many are under way; returns when all are answered or have failed.

    Once `cancelled` says so nothing more is sent and what is under way is dropped.
    """
    return asyncio.run(_open(targets, sending, seed, cancelled))


def closed_loop(
    targets: Sequence[Target],
    sending: Sending,
    concurrency: int,
    *,
    seed: int = 0,
    cancelled: Callable[[], bool] = lambda: False,
    limit_s: float = ANSWER_LIMIT_S,
) -> Answers:
    """`concurrency` clients that each send the next request when the last is answered (`due_s` is not looked at).

    A request that is not answered whole within `limit_s` has failed.
    """
    return asyncio.run(_closed(targets, sending, concurrency, seed, cancelled, limit_s))


@asynccontextmanager
async def _run(
    targets: Sequence[Target], sending: Sending, seed: int, cancelled: Callable[[], bool], limit_s: float
) -> AsyncIterator[_Run]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=limit_s),
        read_bufsize=2**20,
    ) as session:
        run = _Run(targets=targets, sending=sending, seed=seed, session=session, cancelled=cancelled, limit_s=limit_s)
        run.records = [_Record(due_s=float(due)) for due in sending.due_s]
        run.started_s = asyncio.get_running_loop().time()
        yield run


async def _open(targets: Sequence[Target], sending: Sending, seed: int, cancelled: Callable[[], bool]) -> Answers:
    async with _run(targets, sending, seed, cancelled, ANSWER_LIMIT_S) as run:
        tasks = []
        for number, due_s in enumerate(sending.due_s):
            await run.wait_until(float(due_s))
            if cancelled():
                break
            tasks.append(asyncio.create_task(run.one(number)))
        await _finish(tasks, cancelled)
        return _answers(run.records, run.said)


async def _finish(tasks: "list[asyncio.Task[None]]", cancelled: Callable[[], bool]) -> None:
    left = set(tasks)
    while left:
        ended, left = await asyncio.wait(left, timeout=LOOK_S)
        for task in ended:
            task.result()
        if cancelled():
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            return


async def _closed(
    targets: Sequence[Target],
    sending: Sending,
    concurrency: int,
    seed: int,
    cancelled: Callable[[], bool],
    limit_s: float,
) -> Answers:
    async with _run(targets, sending, seed, cancelled, limit_s) as run:
        numbers = iter(range(sending.due_s.size))

        async def client() -> None:
            for number in numbers:
                if cancelled():
                    return
                run.records[number].due_s = run.now()
                await run.one(number)

        await _finish([asyncio.create_task(client()) for _ in range(concurrency)], cancelled)
        return _answers(run.records, run.said)


def _answers(records: Sequence[_Record], said: Mapping[str, str]) -> Answers:
    def column(value: Callable[[_Record], float]) -> FloatArray:
        return np.array([value(r) for r in records], dtype=np.float64)

    done = np.array([r.done for r in records], dtype=bool)
    whole = np.array([r.done and r.error is None for r in records], dtype=bool)
    tokens = np.array([r.tokens for r in records], dtype=np.int64)
    due, first, last = column(lambda r: r.due_s), column(lambda r: r.first_s), column(lambda r: r.last_s)
    gaps = np.where(tokens > 1, tokens - 1, 1)
    return Answers(
        ttft_s=np.where(whole, first - due, np.nan),
        e2e_s=np.where(whole, last - due, np.nan),
        tpot_s=np.where(whole & (tokens > 1), (last - first) / gaps, np.nan),
        tokens=tokens,
        lag_s=column(lambda r: r.lag_s),
        done=done,
        errors=dict(Counter(_with(r.error, said) for r in records if r.error is not None)),
    )


def _with(error: str, said: Mapping[str, str]) -> str:
    return f"{error}: {said[error]}" if said.get(error) else error
