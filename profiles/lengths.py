"""Joint distributions of input and output lengths: from a shipped table, from mean and cv, or from a trace."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from profiles.catalogue_files import Provenance, data_names, load_data
from profiles.errors import ProfileError
from profiles.marginals import LognormalLength, Marginal, TabulatedLength, normal_levels, rounded_tokens
from profiles.normal import normal_quantiles

FOLDER = "lengths"
MEAN_GRID = 256
MAX_CV = 50.0

TokenArray = NDArray[np.int64]


class LengthDistribution(Protocol):
    """Lengths of requests. Means are tokens; sampled lengths are whole and at least 1."""

    @property
    def mean_input(self) -> float:
        """Mean input tokens."""
        ...

    @property
    def mean_output(self) -> float:
        """Mean output tokens."""
        ...

    def sample(self, n: int, rng: np.random.Generator) -> tuple[TokenArray, TokenArray]:
        """`n` requests drawn: (input tokens, output tokens), int64 arrays of length n."""
        ...

    def input_quantile(self, level: float) -> float:
        """Input tokens that a share `level` of requests does not exceed."""
        ...

    def output_quantile(self, level: float) -> float:
        """Output tokens that a share `level` of requests does not exceed."""
        ...

    def restricted(self, low_tokens: float, high_tokens: float) -> "tuple[LengthDistribution, float]":
        """The requests with low_tokens < input tokens <= high_tokens, and their share; ProfileError when none has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLengths:
    """Two marginals joined by a Gaussian copula of that correlation; the input between two of its levels."""

    input: Marginal
    output: Marginal
    correlation: float = 0.0
    low_level: float = 0.0
    high_level: float = 1.0

    @property
    def mean_input(self) -> float:
        """Mean input tokens (before rounding)."""
        return self.input.mean(self.low_level, self.high_level)

    @property
    def mean_output(self) -> float:
        """Mean output tokens (before rounding); of a class of correlated lengths on a grid of 256 x 256 levels."""
        whole = (self.low_level, self.high_level) == (0.0, 1.0)
        if whole or self.correlation == 0.0:
            return self.output.mean(0.0, 1.0)
        grid = (np.arange(MEAN_GRID) + 0.5) / MEAN_GRID
        return float(self.output.values(self._output_levels(grid[:, None], normal_quantiles(grid)[None, :])).mean())

    def sample(self, n: int, rng: np.random.Generator) -> tuple[TokenArray, TokenArray]:
        """`n` requests drawn: (input tokens, output tokens), int64 arrays of length n."""
        uniform, noise = rng.random(n), rng.standard_normal(n)
        inputs = self.input.values(np.clip(self._input_levels(uniform), 1e-12, 1.0 - 1e-12))
        return rounded_tokens(inputs), rounded_tokens(self.output.values(self._output_levels(uniform, noise)))

    def input_quantile(self, level: float) -> float:
        """Input tokens that a share `level` of requests does not exceed (before rounding)."""
        return float(self.input.values(self._input_levels(np.array([_share(level)])))[0])

    def output_quantile(self, level: float) -> float:
        """Output tokens that a share `level` does not exceed (before rounding); of a length class, on a grid."""
        if self.correlation == 0.0 or (self.low_level, self.high_level) == (0.0, 1.0):
            return float(self.output.values(np.array([_share(level)]))[0])
        grid = (np.arange(MEAN_GRID) + 0.5) / MEAN_GRID
        levels = self._output_levels(grid[:, None], normal_quantiles(grid)[None, :])
        return float(self.output.values(np.quantile(levels, _share(level), keepdims=True).ravel())[0])

    def restricted(self, low_tokens: float, high_tokens: float) -> "tuple[JointLengths, float]":
        """The requests with low_tokens < input tokens <= high_tokens, and their share; ProfileError when none has."""
        low = self._level_of(low_tokens)
        high = self._level_of(high_tokens)
        share = (high - low) / (self.high_level - self.low_level)
        if share <= 0:
            raise ProfileError(f"No request has between {low_tokens:g} and {high_tokens:g} input tokens.")
        return replace(self, low_level=low, high_level=high), share

    def _level_of(self, tokens: float) -> float:
        """The level up to which rounded inputs are at most `tokens`; lengths are at least 1."""
        if tokens < 1:
            return self.low_level
        level = 1.0 if math.isinf(tokens) else self.input.level(math.floor(tokens) + 0.5)
        return min(max(level, self.low_level), self.high_level)

    def _input_levels(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.low_level + (self.high_level - self.low_level) * uniform

    def _output_levels(self, uniform: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
        z = normal_quantiles(self._input_levels(uniform))
        return normal_levels(self.correlation * z + math.sqrt(1.0 - self.correlation**2) * noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLengths:
    """The requests of a trace, drawn as whole rows with replacement. Both arrays int64, equally long, at least 1."""

    input_tokens: TokenArray
    output_tokens: TokenArray

    @property
    def mean_input(self) -> float:
        """Mean input tokens."""
        return float(self.input_tokens.mean())

    @property
    def mean_output(self) -> float:
        """Mean output tokens."""
        return float(self.output_tokens.mean())

    def sample(self, n: int, rng: np.random.Generator) -> tuple[TokenArray, TokenArray]:
        """`n` requests drawn: (input tokens, output tokens), int64 arrays of length n."""
        rows = rng.integers(0, len(self.input_tokens), n)
        return self.input_tokens[rows], self.output_tokens[rows]

    def input_quantile(self, level: float) -> float:
        """Input tokens that a share `level` of requests does not exceed."""
        return float(np.quantile(self.input_tokens, _share(level), method="inverted_cdf"))

    def output_quantile(self, level: float) -> float:
        """Output tokens that a share `level` of requests does not exceed."""
        return float(np.quantile(self.output_tokens, _share(level), method="inverted_cdf"))

    def restricted(self, low_tokens: float, high_tokens: float) -> "tuple[TraceLengths, float]":
        """The requests with low_tokens < input tokens <= high_tokens, and their share; ProfileError when none has."""
        inside = (self.input_tokens > low_tokens) & (self.input_tokens <= high_tokens)
        if not inside.any():
            raise ProfileError(f"No request has between {low_tokens:g} and {high_tokens:g} input tokens.")
        kept = trace_lengths(self.input_tokens[inside], self.output_tokens[inside])
        return kept, float(inside.mean())


class LengthTable(BaseModel):
    """Mean, cv and quantiles of one length, in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float = Field(ge=1)
    cv: float = Field(ge=0)
    quantiles: tuple[float, ...] = Field(min_length=2)


class ArrivalTable(BaseModel):
    """How requests of a trace arrive; `dispersion` is variance over mean of counts in windows of 1, 10 and 60 s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean_rps: float = Field(gt=0)
    interarrival_cv: float = Field(ge=0)
    dispersion_1s: float = Field(ge=0)
    dispersion_10s: float = Field(ge=0)
    dispersion_60s: float = Field(ge=0)


class TraceSummary(BaseModel):
    """Figures of a trace: lengths, their correlation, arrivals. `levels` belong to both tables of quantiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    requests: int = Field(ge=1)
    span_s: float = Field(gt=0)
    levels: tuple[float, ...]
    input_tokens: LengthTable
    output_tokens: LengthTable
    spearman: float = Field(ge=-1, le=1)
    copula_correlation: float = Field(ge=-1, le=1)
    arrivals: ArrivalTable
    licence: str
    provenance: Provenance

    @model_validator(mode="after")
    def _tables_fit(self) -> Self:
        if self.levels[0] != 0 or self.levels[-1] != 1 or list(self.levels) != sorted(set(self.levels)):
            raise ValueError("levels must increase from 0 to 1")
        for table in (self.input_tokens, self.output_tokens):
            if len(table.quantiles) != len(self.levels) or list(table.quantiles) != sorted(table.quantiles):
                raise ValueError("quantiles must not decrease, one for each level")
        return self

    @property
    def lengths(self) -> JointLengths:
        """The joint distribution of the lengths."""
        levels = np.array(self.levels)
        return JointLengths(
            input=TabulatedLength(levels=levels, lengths=np.array(self.input_tokens.quantiles)),
            output=TabulatedLength(levels=levels, lengths=np.array(self.output_tokens.quantiles)),
            correlation=self.copula_correlation,
        )


def length_names() -> tuple[str, ...]:
    """Names of the shipped traces' figures, sorted."""
    return data_names(FOLDER)


def load_summary(name: str) -> TraceSummary:
    """The figures of a shipped trace; ProfileError with the nearest name when there is none."""
    return load_data(FOLDER, name, TraceSummary)


def load_lengths(name: str) -> JointLengths:
    """The lengths of a shipped trace; ProfileError with the nearest name when there is none."""
    return load_summary(name).lengths


def moment_lengths(
    *, input_mean: float, input_cv: float, output_mean: float, output_cv: float, correlation: float = 0.0
) -> JointLengths:
    """Lognormal lengths with these means (tokens) and coefficients of variation; cv 0 is a fixed length.

    Raises ProfileError for a mean below 1 or not finite, a cv outside 0 to 50, a correlation outside −1 to 1.
    """
    for name, mean, cv in (("input", input_mean, input_cv), ("output", output_mean, output_cv)):
        if not 1 <= mean < 1e9:
            raise ProfileError(f"The mean of {name} tokens must be at least 1 (and below 1e9), not {mean:g}.")
        if not 0 <= cv <= MAX_CV:
            raise ProfileError(f"The cv of {name} tokens must be between 0 and {MAX_CV:g}, not {cv:g}.")
    if not -1 <= correlation <= 1:
        raise ProfileError(f"The correlation of input and output tokens must be between -1 and 1, not {correlation:g}.")
    return JointLengths(
        input=LognormalLength(length_mean=input_mean, cv=input_cv),
        output=LognormalLength(length_mean=output_mean, cv=output_cv),
        correlation=correlation,
    )


def trace_lengths(input_tokens: TokenArray, output_tokens: TokenArray) -> TraceLengths:
    """The lengths of a trace's requests; ProfileError for empty arrays, unequal ones, or a length below 1."""
    if input_tokens.shape != output_tokens.shape or input_tokens.ndim != 1 or input_tokens.size == 0:
        raise ProfileError("A trace needs as many input lengths as output lengths, and at least one request.")
    if min(input_tokens.min(), output_tokens.min()) < 1:
        raise ProfileError("A trace's input and output lengths must be at least 1 token.")
    held = [np.array(tokens, dtype=np.int64) for tokens in (input_tokens, output_tokens)]
    for array in held:
        array.setflags(write=False)
    return TraceLengths(input_tokens=held[0], output_tokens=held[1])


def _share(level: float) -> float:
    if not 0 <= level <= 1:
        raise ValueError(f"a level must be between 0 and 1, not {level}")
    return min(max(level, 1e-12), 1.0 - 1e-12)
