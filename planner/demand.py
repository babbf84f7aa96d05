"""Demands: what each workload asks for, in SI units, split into its length classes."""

from dataclasses import dataclass
from math import inf

from planner.traffic import Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class SloLimits:
    """Limits of one request in seconds; infinite where the spec states none. A request attains if it meets all."""

    ttft_s: float = inf
    tpot_s: float = inf
    e2e_s: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadDemand:
    """A stream of requests to a model. `classes` are the demand indices of its length classes."""

    index: int
    name: str
    model: str
    rate_rps: float
    slo: SloLimits
    attainment: float
    priority: int
    best_effort: bool
    traffic: Traffic
    router: str
    cached_fraction: float
    classes: tuple[int, ...]

    @property
    def target(self) -> float:
        """Attainment that a plan must reach; best-effort work has none."""
        return 0.0 if self.best_effort else self.attainment


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One length class of a workload: requests with `low_tokens < input tokens <= high_tokens`."""

    index: int
    workload: int
    low_tokens: float
    high_tokens: float
    rate_rps: float
