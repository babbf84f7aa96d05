"""The rows of a sweep as a file (CSV or Parquet) and as a summary in 100 columns."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from planner.files import OutputError, atomic_write_bytes, atomic_write_text, check_writable
from planner.sweep import Row, Sweep

WIDTH = 100
MOST_SHOWN = 24
SUFFIXES = (".csv", ".parquet")


def check_output(path: Path) -> None:
    """OutputError when rows cannot be written there: another kind of file than .csv or .parquet, or no folder."""
    if path.suffix not in SUFFIXES:
        raise OutputError(f"{path} must end in {' or '.join(SUFFIXES)}.")
    check_writable(path)


def write_rows(sweep: Sweep, rows: Sequence[Row], path: Path) -> None:
    """Write the rows whole or not at all, as the file's ending says."""
    if path.suffix == ".csv":
        atomic_write_text(path, rows_as_csv(sweep.columns(), rows))
    else:
        atomic_write_bytes(path, _parquet(sweep, rows))


def rows_as_csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as CSV; what a row has not is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _parquet(sweep: Sweep, rows: Sequence[Row]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    columns = {name: _one_type([row.get(name) for row in rows]) for name in sweep.columns()}
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def _one_type(values: list[object]) -> list[object]:
    """A Parquet column has one type: numbers become floats, and a mixture becomes text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds == {int, float}:
        return [None if v is None else float(str(v)) for v in values]
    return [None if v is None else str(v) for v in values]


def render_sweep(sweep: Sweep, rows: Sequence[Row]) -> str:
    """How the variants ended, the cheapest, and a table of the rows (the first 24), in 100 columns."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    console.print(_table(sweep, rows[:MOST_SHOWN]))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    if len(rows) > MOST_SHOWN:
        lines.append(f"and {len(rows) - MOST_SHOWN} more")
    ended = Counter(row["termination"] for row in rows)
    lines += ["", f"{len(rows)} variants: " + ", ".join(f"{n} {name}" for name, n in sorted(ended.items()))]
    priced = [row for row in rows if row.get("cost_usd_per_hour") is not None]
    if priced:
        costs = [row["cost_usd_per_hour"] for row in priced]
        cheapest = min(priced, key=lambda row: row["cost_usd_per_hour"])
        lines.append(
            f"cost {min(costs):,.2f} to {max(costs):,.2f} USD/h; variant {cheapest['variant']} is the cheapest"
        )
    return "\n".join(lines) + "\n"


def _table(sweep: Sweep, rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="")
    for path in ("variant", *sweep.paths):
        table.add_column(path, justify="right", overflow="fold")
    for column in ("ended", "USD/h", "bound", "gap", "GPUs", "SLO"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["variant"]),
            *(str(row[path]) for path in sweep.paths),
            str(row["termination"]),
            _shown(row, "cost_usd_per_hour", ",.2f"),
            _shown(row, "bound_fluid", ",.2f"),
            _shown(row, "gap_fluid_fraction", ".1%"),
            _shown(row, "gpus_bought", ","),
            {True: "held", False: "missed", None: "–"}[row.get("slo_held")],
        )
    return table


def _shown(row: Row, column: str, form: str) -> str:
    value = row.get(column)
    return "–" if value is None else format(value, form)
