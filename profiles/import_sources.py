"""The sources that kernel tables can be imported from, under one call: what to read, whose it is, what must be said."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from profiles import import_aiconfigurator
from profiles.catalogue_files import Provenance
from profiles.gpus import load_gpu
from profiles.import_tables import Imported, build_tables
from profiles.kernel_grid import Samples

NVIDIA_NOTICE = (
    "Copyright (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES. Licensed under the Apache License, Version 2.0. "
    "Changed: a selection of columns; the fastest kernel of each point; points that a lint found implausible, or above "
    "a larger point, left out (findings); MoE at power-law 1.2 routing; one prompt for prefill attention; times in us."
)
Read = Callable[[str, Path], list[Samples]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How one source is read, the sentence on where it comes from, and the licence notice that travels with it."""

    read: Read
    origin: Callable[[str], str]
    device: Callable[[str], str]
    notice: str


SOURCES: Mapping[str, Source] = {
    "aiconfigurator": Source(
        read=import_aiconfigurator.read_system,
        origin=import_aiconfigurator.sources_of,
        device=lambda system: import_aiconfigurator.SYSTEMS[system].device,
        notice=NVIDIA_NOTICE,
    ),
}


def import_tables(source: str, system: str, path: Path, today: datetime.date) -> Imported:
    """The tables of one GPU of the catalogue from a source; ProfileError names what is wrong, with file and row."""
    chosen = SOURCES[source]
    samples = chosen.read(system, path)
    provenance = Provenance(source=chosen.origin(system), date=today, covers=tuple(s.kind.name for s in samples))
    return build_tables(samples, load_gpu(system), chosen.device(system), (provenance,), chosen.notice)
