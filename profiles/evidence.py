"""Where a figure comes from: every figure a user sees carries one of these classes (DESIGN §4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

HEADLINE_SHARE = 0.10


class Evidence(StrEnum):
    """How a cost is known, strongest first (the order of the members is the order of strength)."""

    MEASURED = "measured"
    """A grid point measured on that device, or a figure the user measured and gave."""
    INTERPOLATED = "interpolated"
    """Inside a grid measured on that device."""
    FITTED = "fitted"
    """An engine term fitted on measured runs."""
    SCALED = "scaled"
    """Roofline times an efficiency curve fitted on that device."""
    MODELLED = "modelled"
    """Roofline times an efficiency curve of a sister device."""


STRENGTH: tuple[Evidence, ...] = tuple(Evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceShares:
    """Seconds of a figure's time in each evidence class."""

    seconds: Mapping[Evidence, float]

    @property
    def headline(self) -> Evidence:
        """The weakest class that holds at least 10 % of the time; MEASURED when there is no time at all."""
        total = sum(self.seconds.values())
        weakest = Evidence.MEASURED
        for evidence in STRENGTH:
            share = self.seconds.get(evidence, 0.0)
            if share > 0 and share >= HEADLINE_SHARE * total:
                weakest = evidence
        return weakest

    @property
    def fractions(self) -> dict[Evidence, float]:
        """Share of the time in each class that holds any, strongest first; they sum to 1."""
        total = sum(self.seconds.values())
        if total <= 0:
            return {}
        return {e: self.seconds[e] / total for e in STRENGTH if self.seconds.get(e, 0.0) > 0}

    def plus(self, other: "EvidenceShares") -> "EvidenceShares":
        """The shares of two figures that add up."""
        keys = {*self.seconds, *other.seconds}
        return EvidenceShares(
            seconds={e: self.seconds.get(e, 0.0) + other.seconds.get(e, 0.0) for e in STRENGTH if e in keys}
        )

    @classmethod
    def of(cls, evidence: Evidence, seconds: float) -> Self:
        """All of the time in one class."""
        return cls(seconds={evidence: seconds})
