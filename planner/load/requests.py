"""What is sent to engines, and what came back, request by request."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that takes OpenAI completions: its base URL, the model's name there, and a key if it needs one."""

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    vocabulary: int = 1000
    """Prompts are made of token ids below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Requests in order of arrival, shape (requests,): when each is due, its lengths, and which target it goes to."""

    due_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    target: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back, shape (requests,), NaN where nothing did. Times are from when a request was *due*.

    `tpot_s` is (last − first token) ÷ (tokens − 1), by tokens and not by chunks. `lag_s`: how late the client sent it.
    `done`: answered to the end or failed, not cut off by a cancel. `errors` maps a message to how many requests ended
    with it.
    """

    ttft_s: FloatArray
    e2e_s: FloatArray
    tpot_s: FloatArray
    tokens: IntArray
    lag_s: FloatArray
    done: NDArray[np.bool_]
    errors: dict[str, int]

    @property
    def served(self) -> NDArray[np.bool_]:
        """Whether a request was answered whole."""
        return ~np.isnan(self.e2e_s)


def prompt_of(seed: int, number: int, tokens: int, vocabulary: int) -> list[int]:
    """Token ids of a prompt, all different from request to request so that no prefix is cached; ids 0 to 9 are left
    out, which tokenizers keep for themselves.
    """
    rng = np.random.default_rng([seed, number])
    return [int(t) for t in rng.integers(min(10, vocabulary - 1), vocabulary, tokens)]


def body_of(target: Target, prompt: list[int], tokens: int) -> dict[str, Any]:
    """A streaming completion of exactly so many tokens. `ignore_eos` and `return_token_ids` are vLLM's own fields."""
    return {
        "model": target.model,
        "prompt": prompt,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
