"""Kernels that share a device: what was measured of pairs, and a contention model of two resources fitted on them.

The slowdown of a kernel (its time beside neighbours ÷ its time alone with the same share of the device) is one plus

* slice: by how much the shares of all exceed the device (processors that take turns),
* arithmetic: slice × the arithmetic that it uses × the arithmetic that the neighbours use,
* bandwidth: the bandwidth that it uses × by how much all demands together exceed what there is,
* cache: the bandwidth that the neighbours use (what they fetch drives its data out of the shared cache),
* launch: the number of neighbours (they wait for each other's launches),

each with a weight of at least zero: it is never below one and never falls as neighbours ask for more. Additive terms in
the neighbours' demands and their number: iGniter (Xu et al., IEEE TPDS 34(3), 2023, section 3).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator
from scipy.optimize import nnls

from profiles.catalogue_files import Provenance, load_path
from profiles.errors import ProfileError
from profiles.evidence import Evidence

FloatArray = NDArray[np.float64]
TERMS = ("slice", "arithmetic", "bandwidth", "cache", "launch")
Sharing = Literal["streams", "green_contexts", "mps", "cores"]


class InterferencePart(BaseModel):
    """Base of the file's parts: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Demand(InterferencePart):
    """What a kernel takes of the device while it runs alone: the share it may use, and the parts of the device's peak
    arithmetic and bandwidth that it does use.
    """

    share_fraction: float = Field(gt=0, le=1)
    compute_fraction: float = Field(ge=0, le=1)
    bandwidth_fraction: float = Field(ge=0, le=1)


class Load(InterferencePart):
    """A kernel that was measured with others: its time alone with that share, and what it takes then."""

    kernel: str
    columns: dict[str, str | int]
    alone_s: PositiveFloat
    demand: Demand


class Pair(InterferencePart):
    """Two loads at once for the whole of a window: each one's time ÷ its time alone; `spread_fraction` over passes."""

    first: str
    second: str
    first_slowdown: PositiveFloat
    second_slowdown: PositiveFloat
    spread_fraction: NonNegativeFloat


class Contention(InterferencePart):
    """The weights of the terms, and the error on pairs that were left out of the fit."""

    weights: dict[str, NonNegativeFloat]
    pairs: int
    held_out_median_error_fraction: NonNegativeFloat
    held_out_p90_error_fraction: NonNegativeFloat

    @model_validator(mode="after")
    def _has_every_term(self) -> "Contention":
        if set(self.weights) != set(TERMS):
            raise ValueError(f"weights must be given for {', '.join(TERMS)}")
        return self

    def slowdown(self, own: Demand, neighbours: Sequence[Demand]) -> float:
        """Time beside the neighbours ÷ time alone, at least 1."""
        weights = np.array([self.weights[term] for term in TERMS])
        return 1.0 + float(features(own, neighbours) @ weights)


class Interference(InterferencePart):
    """What a file of measured interference holds: loads by name, pairs of them, the model fitted on those."""

    version: Literal[1] = 1
    gpu: str
    device: str
    sharing: tuple[Sharing, ...] = Field(min_length=1)
    loads: dict[str, Load]
    pairs: tuple[Pair, ...] = Field(min_length=1)
    contention: Contention
    sources: tuple[Provenance, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _pairs_are_of_loads(self) -> "Interference":
        for pair in self.pairs:
            for name in (pair.first, pair.second):
                if name not in self.loads:
                    raise ValueError(f"a pair names the load {name!r}, which is not among the loads")
        return self

    def measured(self, own: str, neighbour: str) -> float | None:
        """The measured slowdown of a load beside another one, at least 1; None when they were not measured together."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (own, neighbour):
                return max(pair.first_slowdown, 1.0)
            if (pair.second, pair.first) == (own, neighbour):
                return max(pair.second_slowdown, 1.0)
        return None

    def predict(self, own: Demand, neighbours: Sequence[Demand], gpu: str) -> tuple[float, Evidence]:
        """(slowdown of at least 1, how it is known) on a GPU: by the model, or as measured where the same was."""
        if not neighbours:
            return 1.0, Evidence.MEASURED
        here = gpu == self.gpu
        mine = self._named(own)
        others = [self._named(one) for one in neighbours]
        if here and len(others) == 1 and mine is not None and others[0] is not None:
            found = self.measured(mine, others[0])
            if found is not None:
                return found, Evidence.MEASURED
        return self.contention.slowdown(own, neighbours), Evidence.FITTED if here else Evidence.MODELLED

    def _named(self, demand: Demand) -> str | None:
        return next((name for name, load in self.loads.items() if load.demand == demand), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One direction of a pair: what the model is fitted on. Both directions of a pair have the same `pair`."""

    pair: int
    own: Demand
    neighbour: Demand
    slowdown: float


def load_name(kernel: str, sharing: Sharing, share_fraction: float) -> str:
    """A kernel with its seat, such as `gemm m64 (mps 50%)`."""
    return f"{kernel} ({sharing} {share_fraction:.0%})"


def kernel_and_sharing(load: str) -> tuple[str, str]:
    """What `load_name` was made of; a name that it did not make is a kernel on one device."""
    kernel, sign, seat = load.rpartition(" (")
    return (kernel, seat.split(" ")[0].rstrip(")")) if sign else (load, "one device")


def features(own: Demand, neighbours: Sequence[Demand]) -> FloatArray:
    """The terms of the model, unweighted, in the order of TERMS."""
    shares = own.share_fraction + sum(n.share_fraction for n in neighbours)
    arithmetic = sum(n.compute_fraction for n in neighbours)
    bandwidth = sum(n.bandwidth_fraction for n in neighbours)
    over = max(shares - 1.0, 0.0)
    return np.array(
        [
            over,
            over * own.compute_fraction * arithmetic,
            own.bandwidth_fraction * max(own.bandwidth_fraction + bandwidth - 1.0, 0.0),
            bandwidth,
            float(len(neighbours)),
        ]
    )


def observations(loads: Mapping[str, Load], pairs: Iterable[Pair]) -> list[Observation]:
    """Both directions of each pair."""
    found = []
    for number, pair in enumerate(pairs):
        first, second = loads[pair.first].demand, loads[pair.second].demand
        found.append(Observation(pair=number, own=first, neighbour=second, slowdown=pair.first_slowdown))
        found.append(Observation(pair=number, own=second, neighbour=first, slowdown=pair.second_slowdown))
    return found


def fit_contention(seen: Sequence[Observation]) -> Contention:
    """The model of least squared relative error, and its error on each pair by a fit without that pair.

    Raises ProfileError when there are fewer than two pairs.
    """
    pairs = sorted({one.pair for one in seen})
    if len(pairs) < 2:
        raise ProfileError("a contention model needs at least two pairs of kernels.")
    errors = []
    for left_out in pairs:
        weights = _weights([one for one in seen if one.pair != left_out])
        for one in seen:
            if one.pair == left_out:
                guess = 1.0 + float(features(one.own, [one.neighbour]) @ weights)
                errors.append(abs(guess / max(one.slowdown, 1.0) - 1.0))
    median, p90 = np.quantile(errors, (0.5, 0.9)).tolist()
    return Contention(
        weights={term: round(w, 6) for term, w in zip(TERMS, _weights(seen).tolist(), strict=True)},
        pairs=len(pairs),
        held_out_median_error_fraction=round(median, 4),
        held_out_p90_error_fraction=round(p90, 4),
    )


def _weights(seen: Sequence[Observation]) -> FloatArray:
    """Weights of at least 0 that give the least sum of squares of relative errors (a measured one below 1 counts 1)."""
    slowdowns = np.array([max(one.slowdown, 1.0) for one in seen])
    rows = np.array([features(one.own, [one.neighbour]) for one in seen]) / slowdowns[:, None]
    found, _ = nnls(rows, (slowdowns - 1.0) / slowdowns)
    return np.asarray(found)


def load_interference(path: Path) -> Interference:
    """The interference file of a path; ProfileError when it cannot be read or does not fit."""
    return load_path(path, Interference)
