"""`muxplan profile import`: tables of measured kernels, made from published ones or from the user's own."""

import argparse
import datetime
import json
import sys
from pathlib import Path

from profiles.import_sources import import_tables
from profiles.import_tables import Imported
from profiles.kernel_lints import findings_text
from profiles.kernel_store import TableError, write_tables

DEFAULT_FOLDER = "kernels"


def run(arguments: argparse.Namespace) -> int:
    """Import the tables of one GPU and say what was left out of them; exit code 0."""
    path = Path(arguments.source_path)
    imported = import_tables(arguments.source, arguments.system, path, datetime.date.today())
    folder = Path(arguments.output) if arguments.output else Path(DEFAULT_FOLDER) / imported.index.gpu
    write_tables(folder, imported.index, imported.packed)
    sys.stdout.write(_as_json(imported, folder) if arguments.json else tables_text(imported, folder))
    return 0


def _as_json(imported: Imported, folder: Path) -> str:
    return json.dumps({"folder": str(folder), **imported.index.model_dump(mode="json")}, indent=2) + "\n"


def tables_text(imported: Imported, folder: Path) -> str:
    """What the tables hold, how far off they are, and what the lints found."""
    size = sum(len(packed) for packed in imported.packed.values())
    lines = [f"{folder}: kernels of {imported.index.gpu}, {size / 1e3:,.0f} kB"]
    for name, table in imported.index.tables.items():
        errors = _error("points left out", table.left_out) + _error("unseen shapes", table.unseen_shape)
        lines.append(f"  {name}: {table.curves:,} curves, {table.points:,} points{errors}")
    findings = findings_text(imported.index.findings)
    lines += ["found and dealt with:", *(f"  {line}" for line in findings)] if findings else ["nothing was found amiss"]
    return "\n".join((*lines, ""))


def _error(name: str, error: TableError | None) -> str:
    if error is None:
        return ""
    return f"; {name}: median {error.median_error_fraction:.1%}, p90 {error.p90_error_fraction:.1%} off"
