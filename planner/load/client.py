"""The load client: open loop by arrival times, or closed loop by concurrency, over the OpenAI API with streaming.

Latencies count from the moment a request was due, sent or not (no coordinated omission); how late the client itself was
is measured beside, so that a client that cannot keep up is seen as that.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from planner.load.requests import Answers, FloatArray, Sending, Target, body_of, prompt_of

ANSWER_LIMIT_S = 600.0
MOST_CONNECTIONS = 4096
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
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class _Run:
    """One load in progress."""

    targets: Sequence[Target]
    sending: Sending
    seed: int
    session: aiohttp.ClientSession
    cancelled: Callable[[], bool]
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
                f"{target.url}/v1/completions", json=body_of(target, prompt, asked), headers=headers
            ) as response:
                if response.status != 200:
                    record.error = f"HTTP {response.status}"
                    return
                async for line in response.content:
                    self._read(record, line)
            if record.tokens != asked and record.error is None:
                record.error = f"{record.tokens} tokens came instead of {asked}" if record.tokens else "no tokens came"
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            record.error = type(error).__name__

    def _read(self, record: _Record, line: bytes) -> None:
        if not line.startswith(b"data:") or line.strip() == b"data: [DONE]":
            return
        chunk = json.loads(line[5:])
        if "error" in chunk:
            record.error = "the server broke the stream off with an error"
        choices = chunk.get("choices") or []
        # Without token ids a chunk with text counts as one token; the usage at the end sets it right.
        came = len(choices[0].get("token_ids") or choices[0].get("text", "")[:1]) if choices else 0
        if came:
            record.last_s = self.now()
            if np.isnan(record.first_s):
                record.first_s = record.last_s
            record.tokens += came
        usage = chunk.get("usage")
        if usage:
            record.tokens = int(usage["completion_tokens"])

    async def wait_until(self, due_s: float) -> None:
        """Wait until a request is due, or until the load is cancelled."""
        while (rest := due_s - self.now()) > SPIN_S:
            if self.cancelled():
                return
            await asyncio.sleep(min(rest - SPIN_S, LOOK_S))
        while self.now() < due_s:
            await asyncio.sleep(0)


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
) -> Answers:
    """`concurrency` clients that each send the next request when the last is answered (`due_s` is not looked at)."""
    return asyncio.run(_closed(targets, sending, concurrency, seed, cancelled))


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=ANSWER_LIMIT_S),
        read_bufsize=2**20,
    )


async def _open(targets: Sequence[Target], sending: Sending, seed: int, cancelled: Callable[[], bool]) -> Answers:
    async with _session() as session:
        run = _Run(targets=targets, sending=sending, seed=seed, session=session, cancelled=cancelled)
        run.records = [_Record(due_s=float(due)) for due in sending.due_s]
        run.started_s = asyncio.get_running_loop().time()
        tasks = []
        for number, due_s in enumerate(sending.due_s):
            await run.wait_until(float(due_s))
            if cancelled():
                break
            tasks.append(asyncio.create_task(run.one(number)))
        await _finish(tasks, cancelled)
        return _answers(run.records)


async def _finish(tasks: "list[asyncio.Task[None]]", cancelled: Callable[[], bool]) -> None:
    left = set(tasks)
    while left:
        _, left = await asyncio.wait(left, timeout=LOOK_S)
        if cancelled():
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            return


async def _closed(
    targets: Sequence[Target], sending: Sending, concurrency: int, seed: int, cancelled: Callable[[], bool]
) -> Answers:
    async with _session() as session:
        run = _Run(targets=targets, sending=sending, seed=seed, session=session, cancelled=cancelled)
        run.records = [_Record(due_s=0.0) for _ in sending.due_s]
        run.started_s = asyncio.get_running_loop().time()
        numbers = iter(range(sending.due_s.size))

        async def client() -> None:
            for number in numbers:
                if cancelled():
                    return
                run.records[number].due_s = run.now()
                await run.one(number)

        await _finish([asyncio.create_task(client()) for _ in range(concurrency)], cancelled)
        return _answers(run.records)


def _answers(records: Sequence[_Record]) -> Answers:
    def column(value: Callable[[_Record], float]) -> FloatArray:
        return np.array([value(r) for r in records], dtype=np.float64)

    whole = np.array([r.error is None and r.tokens > 0 for r in records], dtype=bool)
    tokens = np.array([r.tokens for r in records], dtype=np.int64)
    due, first, last = column(lambda r: r.due_s), column(lambda r: r.first_s), column(lambda r: r.last_s)
    gaps = np.where(tokens > 1, tokens - 1, 1)
    return Answers(
        ttft_s=np.where(whole, first - due, np.nan),
        e2e_s=np.where(whole, last - due, np.nan),
        tpot_s=np.where(whole & (tokens > 1), (last - first) / gaps, np.nan),
        tokens=tokens,
        lag_s=column(lambda r: r.lag_s),
        errors=dict(Counter(r.error for r in records if r.error is not None)),
    )
