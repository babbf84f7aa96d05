"""Errors of a spec: file, line, field, what is wrong and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from profiles.errors import PlanningError

MOST_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with a spec. `line` counts from 1; `field` is the path, empty for the whole file."""

    line: int
    field: str
    what: str


class SpecError(PlanningError):
    """A spec that cannot be planned; all its faults (the first ten are shown)."""

    def __init__(self, file: str, faults: Sequence[Fault]) -> None:
        self.file = file
        self.faults = tuple(faults)
        shown = [_shown(file, fault) for fault in self.faults[:MOST_SHOWN]]
        if len(self.faults) > MOST_SHOWN:
            shown.append(f"and {len(self.faults) - MOST_SHOWN} more")
        super().__init__("\n".join(shown))


def _shown(file: str, fault: Fault) -> str:
    field = f" {fault.field}:" if fault.field else ""
    return f"{file}:{fault.line}:{field} {fault.what}"
