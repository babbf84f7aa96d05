"""From measured points to kernel tables: checked, cleaned, packed, with the errors they have."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiles.catalogue_files import Provenance
from profiles.gpus import Gpu
from profiles.kernel_errors import left_out_error, unseen_shape_error
from profiles.kernel_grid import Grid, Samples, check_samples, grid_of
from profiles.kernel_lints import Finding, drop_falling, lint
from profiles.kernel_store import TableFile, TableIndex, digest, pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read from a source: points by kind, the device they were measured on, one sentence on where from."""

    samples: Sequence[Samples]
    device: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The tables of one GPU, ready to be written."""

    index: TableIndex
    packed: Mapping[str, bytes]


def build_tables(reading: Reading, gpu: Gpu, today: datetime.date, notice: str) -> Imported:
    """The tables that measured points make; ProfileError names the row of a point that cannot be."""
    packed: dict[str, bytes] = {}
    tables: dict[str, TableFile] = {}
    findings: list[Finding] = []
    for points in reading.samples:
        check_samples(points, gpu)
        plausible, found = lint(grid_of(points), gpu)
        findings += found
        if not plausible.keys:
            continue
        kept, fallen = drop_falling(plausible)
        findings += fallen
        name = kept.kind.name
        packed[name] = pack(kept)
        tables[name] = _table_file(kept, plausible, packed[name], gpu)
    source = Provenance(source=reading.origin, date=today, covers=tuple(tables))
    index = TableIndex(
        gpu=gpu.name,
        device=reading.device,
        notice=notice,
        sources=(source,),
        tables=tables,
        findings=tuple(findings),
    )
    return Imported(index=index, packed=packed)


def _table_file(kept: Grid, plausible: Grid, packed: bytes, gpu: Gpu) -> TableFile:
    return TableFile(
        sha256=digest(packed),
        curves=len(kept.keys),
        points=int(np.isfinite(kept.seconds).sum()),
        left_out=left_out_error(plausible, gpu),
        unseen_shape=unseen_shape_error(plausible, gpu),
    )
