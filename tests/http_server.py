"""A web server of a test, in a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def served(path: str, handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers what is posted to a path; the port that is free and taken."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post(path, handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        ports.append(runner.addresses[0][1])
        return runner

    def run() -> None:
        runner = loop.run_until_complete(start())
        # Ready only in the loop that can be stopped: a stop that falls into the end of the start is lost.
        loop.call_soon(ready.set)
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
