"""A linear program with integers as plain data: columns, rows, nothing of any solver."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Sense = Literal["<=", ">=", "=="]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`Σ terms[column] · column (<=, >=, ==) bound`."""

    terms: dict[int, float]
    sense: Sense
    bound: float


@dataclass(slots=True)
class LinearModel:
    """Columns and rows in the order in which they were added; a column is known by its number."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    integer: list[bool] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def continuous(self, upper: float) -> int:
        """Add a continuous column in [0, upper] (inf: no limit); returns its number."""
        return self._column(upper, False)

    def whole(self, upper: float) -> int:
        """Add an integer column in [0, upper] (inf: no limit); returns its number."""
        return self._column(upper, True)

    def _column(self, upper: float, integer: bool) -> int:
        self.lower.append(0.0)
        self.upper.append(upper)
        self.integer.append(integer)
        return len(self.upper) - 1

    def row(self, terms: Mapping[int, float], sense: Sense, bound: float) -> int:
        """Add a row, without its zero coefficients; returns its number."""
        kept = {column: coefficient for column, coefficient in terms.items() if coefficient != 0.0}
        self.rows.append(Row(terms=kept, sense=sense, bound=bound))
        return len(self.rows) - 1


def add_terms(into: dict[int, float], terms: Mapping[int, float], factor: float) -> None:
    """Add `factor · terms` to the expression `into`, in place."""
    for column, coefficient in terms.items():
        into[column] = into.get(column, 0.0) + factor * coefficient
