"""Reads measured kernels from a user's own CSV file: one point a line (docs/kernels.md)."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from profiles.csv_table import Row, read_rows
from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.import_tables import Reading
from profiles.kernel_grid import Samples, samples_of
from profiles.kernel_kinds import COLLECTIVES, DIRECTIONS, KINDS, KV_BYTES, OPERANDS, Column, Kind

MOST_BYTES = 400_000_000
NEEDED = ("device", "kernel", "latency_us")
US_PER_S = 1e6
NAMES = {
    "operation": tuple(COLLECTIVES),
    "direction": DIRECTIONS,
    "gemm": tuple(OPERANDS),
    "norm": tuple(OPERANDS),
    "moe": tuple(OPERANDS),
}
"""The names that a column of names may hold, by column or kind; of attention kernels, the types of a KV cache."""


def read_csv(gpu: Gpu, path: Path) -> Reading:
    """The points of a file, which must all be of one device; ProfileError names the line and column at fault."""
    rows: dict[str, list[Row]] = defaultdict(list)
    device = ""
    for row in read_rows(path, NEEDED, MOST_BYTES):
        found = row.text("device")
        device = device or found
        if found != device:
            raise row.fault("device", f"is {found[:40]!r}, but the lines before it are of {device[:40]!r}")
        kind = row.text("kernel")
        if kind not in KINDS:
            raise row.fault("kernel", f"{kind[:40]!r} is not known; known are {', '.join(KINDS)}")
        rows[kind].append(row)
    samples = [_samples(KINDS[kind], path, mine) for kind, mine in rows.items()]
    return Reading(samples=samples, device=device, origin=f"{path.name}, measured on {device} by its user ({gpu.name})")


def _samples(kind: Kind, path: Path, rows: list[Row]) -> Samples:
    missing = next((c for c in kind.columns if c not in rows[0].values and c != "window"), None)
    if missing is not None:
        raise ProfileError(f"{path}, line 1: column {missing} is missing; {kind.name} needs {', '.join(kind.columns)}.")
    columns: dict[str, Column] = {name: _column(kind, name, rows) for name in kind.columns}
    seconds = np.array([row.number("latency_us", above=0) for row in rows]) / US_PER_S
    return samples_of(kind, str(path), columns, seconds, np.array([row.line for row in rows]))


def _column(kind: Kind, name: str, rows: list[Row]) -> Column:
    if name in kind.texts:
        return np.array([_name(kind, name, row) for row in rows])
    if name == "window":
        return np.array([float(row.whole(name, least=0)) if row.values.get(name) else 0.0 for row in rows])
    return np.array([float(row.whole(name, least=1)) for row in rows])


def _name(kind: Kind, name: str, row: Row) -> str:
    known = NAMES.get(name) or NAMES.get(kind.name) or tuple(KV_BYTES)
    text = row.text(name)
    if text not in known:
        raise row.fault(name, f"{text[:40]!r} is not known; of {kind.name} known are {', '.join(known)}")
    return text
