"""From measured windows on an engine to the laws of a step (see `profiles.measured_steps`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from profiles.errors import ProfileError
from profiles.measured_steps import StepLaw

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Steps of `batch` sequences with `kv_tokens` of KV together took `step_s` each."""

    batch: int
    kv_tokens: float
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilling:
    """A prompt of `tokens` alone: `step_s` in the engine, `ttft_s` seen by the client."""

    tokens: int
    step_s: float
    ttft_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTime:
    """Processor seconds of the worker over a window, and what it computed in it."""

    cpu_s: float
    steps: float
    tokens: float
    kv_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedSteps:
    """The law of the step, of the front end, and the median absolute error of both on the points they came from."""

    step: StepLaw
    request_s: float
    input_token_s: float
    error_fraction: float


def fit_steps(decoding: Sequence[Decoding], prefilling: Sequence[Prefilling]) -> FittedSteps:
    """Fit the wall law. ProfileError when there are too few points to tell its terms apart.

    KV slope from decodes of one batch at two contexts; the quadratic term from the prompts; the linear part is what is
    left at each measured token count, made non-decreasing.
    """
    if len({d.batch for d in decoding}) < 2 or len({p.tokens for p in prefilling}) < 3:
        raise ProfileError("a step law needs at least two batch sizes and three prompt lengths.")
    kv_token_s = _kv_slope(decoding)
    prompts = np.array([p.tokens for p in prefilling], dtype=float)
    seconds = np.array([p.step_s for p in prefilling])
    squared_s = float(_relative_fit(np.stack([np.ones_like(prompts), prompts, prompts**2], axis=1), seconds)[2])
    linear = {d.batch: d.step_s - kv_token_s * d.kv_tokens for d in reversed(decoding)}
    linear |= {p.tokens: p.step_s - squared_s * p.tokens**2 for p in prefilling if p.tokens not in linear}
    law = _law(linear, kv_token_s, squared_s)
    outside = np.maximum(np.array([p.ttft_s - p.step_s for p in prefilling]), 0.0)
    request_s, input_token_s = _fit(np.stack([np.ones_like(prompts), prompts], axis=1), outside)
    return FittedSteps(
        step=law,
        request_s=float(request_s),
        input_token_s=float(input_token_s),
        error_fraction=_error(law, (float(request_s), float(input_token_s)), decoding, prefilling),
    )


def fit_worker_time(windows: Sequence[WorkerTime]) -> StepLaw:
    """The law of the worker's processor time in bursts of decodes, linear in tokens. ProfileError: fewer windows than
    terms.
    """
    columns = np.array([[w.steps, w.tokens, w.kv_tokens] for w in windows])
    if len(windows) < columns.shape[1]:
        raise ProfileError("the worker's processor time needs at least three windows.")
    fixed, token, kv = _relative_fit(columns, np.array([w.cpu_s for w in windows]))
    return StepLaw(
        tokens=(1, 1001),
        linear_s=(max(fixed + token, 1e-9), max(fixed + 1001 * token, 1e-9)),
        kv_token_s=kv,
        prompt_token_squared_s=0.0,
    )


def worker_cpu_s(law: StepLaw, window: WorkerTime) -> float:
    """Processor seconds that the law gives for a window of steps (its `cpu_s` is not looked at)."""
    first, last = (float(v) for v in law.linear_at(np.array([1.0, 1001.0])))
    token = (last - first) / 1000.0
    linear = (first - token) * window.steps + token * window.tokens
    return linear + law.kv_token_s * window.kv_tokens


def _kv_slope(decoding: Sequence[Decoding]) -> float:
    """Seconds per KV token: the median over the batches that were measured at more than one context."""
    by_batch: dict[int, list[Decoding]] = {}
    for one in decoding:
        by_batch.setdefault(one.batch, []).append(one)
    slopes = []
    for some in by_batch.values():
        short, long = min(some, key=lambda d: d.kv_tokens), max(some, key=lambda d: d.kv_tokens)
        if long.kv_tokens > short.kv_tokens:
            slopes.append((long.step_s - short.step_s) / (long.kv_tokens - short.kv_tokens))
    return max(0.0, float(np.median(slopes))) if slopes else 0.0


def _law(linear: Mapping[int, float], kv_token_s: float, squared_s: float) -> StepLaw:
    tokens = sorted(linear)
    rising = np.maximum.accumulate(np.maximum([linear[t] for t in tokens], 1e-9))
    return StepLaw(
        tokens=tuple(tokens),
        linear_s=tuple(float(s) for s in rising),
        kv_token_s=kv_token_s,
        prompt_token_squared_s=squared_s,
    )


def _relative_fit(columns: FloatArray, values: FloatArray) -> FloatArray:
    """Non-negative coefficients of least relative square error."""
    return _fit(columns / values[:, None], np.ones_like(values))


def _fit(columns: FloatArray, values: FloatArray) -> FloatArray:
    scale = np.maximum(np.abs(columns).max(axis=0), 1e-300)
    found, _ = nnls(columns / scale, values)
    return np.asarray(found / scale)


def _error(
    law: StepLaw, front: tuple[float, float], decoding: Sequence[Decoding], prefilling: Sequence[Prefilling]
) -> float:
    errors = []
    for one in decoding:
        expected = float(law.linear_at(np.array([float(one.batch)]))[0]) + law.kv_token_s * one.kv_tokens
        errors.append(abs(expected / one.step_s - 1.0))
    for prompt in prefilling:
        n = float(prompt.tokens)
        step = float(law.linear_at(np.array([n]))[0]) + law.prompt_token_squared_s * n * n
        errors.append(abs((step + front[0] + front[1] * n) / prompt.ttft_s - 1.0))
    return float(np.median(errors))
