"""One line of a streamed completion, and what went wrong with a request, in words that say what to do about it."""

import json
from dataclasses import dataclass

import aiohttp

END = b"[DONE]"
SAID_BYTES = 4000
SAID_LENGTH = 200


class StreamError(ValueError):
    """A line of the stream is not what the completions API sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one event brought: tokens, whether their ids were there to count, and the total of the usage at the end."""

    tokens: int
    counted: bool
    total_tokens: int | None
    failed: bool


def read_chunk(line: bytes) -> Chunk | None:
    """The event of a line; None for lines without data. StreamError when it is malformed.

    Without token ids an event with text counts as one token: the total of the usage sets that right.
    """
    if not line.startswith(b"data:") or line[5:].strip() == END:
        return None
    try:
        data = json.loads(line[5:])
        first = (data.get("choices") or [{}])[0]
        ids, text, usage = first.get("token_ids"), first.get("text"), data.get("usage")
        return Chunk(
            tokens=len(ids) if ids else int(bool(text)),
            counted=ids is not None,
            total_tokens=int(usage["completion_tokens"]) if usage else None,
            failed="error" in data,
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise StreamError("an event of the stream is malformed") from error


def fault(error: Exception, limit_s: float) -> str:
    """What an exception of the client means; the same words for every request that it happens to."""
    match error:
        case StreamError():
            return str(error)
        case aiohttp.ClientConnectorCertificateError():
            return "its TLS certificate is not trusted (the variable SSL_CERT_FILE names other authorities)"
        case aiohttp.ClientSSLError():
            return "TLS fails: does it speak https at this port?"
        case aiohttp.ClientConnectorDNSError():
            return "its host name is not known"
        case aiohttp.ClientConnectorError():
            return f"there is no connection ({error.os_error.strerror or 'no reason given'})"
        case TimeoutError():
            return f"no whole answer within {limit_s:g} s"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP: does it speak https at this port?"
        case aiohttp.ClientError() | OSError():
            return "the connection broke off"
        case _:
            return "a line of the stream is longer than any event is"


def refusal(status: int, location: str | None) -> str:
    """What a status other than 200 means. A redirect is never followed: the key is for the host that was named."""
    if 300 <= status < 400:
        return f"HTTP {status}, a redirect to {location or 'nowhere'}, which is not followed: name the final URL"
    return f"HTTP {status}{MEANINGS.get(status, '')}"


MEANINGS = {
    401: " (it wants another key: set MUXPLAN_API_KEY or OPENAI_API_KEY)",
    403: " (the key may not do this: set MUXPLAN_API_KEY or OPENAI_API_KEY)",
    404: " (no such path or model there)",
    429: " (its rate limit: ask for a higher one, or send less with --rate)",
    503: " (it is overloaded or not ready)",
}


def said(body: bytes, secret: str | None) -> str:
    """What a server said with a refusal, on one printable line without the key; empty when it said nothing."""
    text = body.decode("utf-8", errors="replace")
    try:
        data = json.loads(text)
        inner = data.get("error", data)
        text = str(inner.get("message", inner.get("detail", ""))) if isinstance(inner, dict) else str(inner)
    except (ValueError, AttributeError, RecursionError):
        text = "" if "<html" in text.lower() else text
    if secret:
        text = text.replace(secret, "…")
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:SAID_LENGTH]
