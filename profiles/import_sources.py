"""The sources that kernel tables can be imported from: what reads them, and the notice that must travel with them."""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from profiles.gpus import Gpu, find_gpu
from profiles.import_aiconfigurator import read_system
from profiles.import_csv import read_csv
from profiles.import_tables import Imported, Reading, build_tables
from profiles.import_vidur import read_vidur

CHANGED = "Changed: the fastest kernel of each point; points that a lint found implausible left out (findings)"
NVIDIA_NOTICE = (
    "Copyright (c) 2025-2026 NVIDIA CORPORATION & AFFILIATES. Licensed under the Apache License, Version 2.0. "
    f"{CHANGED}; a selection of columns; MoE at power-law 1.2 routing; one prompt for prefill attention; times in us."
)
MICROSOFT_NOTICE = f"Vidur, Microsoft Corporation, MIT License. {CHANGED}; medians of the projections and all-reduces."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How one source is read, and the licence notice that goes with its figures."""

    read: Callable[[Gpu, Path], Reading]
    notice: str = ""


SOURCES: Mapping[str, Source] = {
    "aiconfigurator": Source(read=read_system, notice=NVIDIA_NOTICE),
    "vidur": Source(read=read_vidur, notice=MICROSOFT_NOTICE),
    "csv": Source(read=read_csv),
}


def import_tables(source: str, system: str, path: Path, today: datetime.date) -> Imported:
    """The tables of a GPU (a name of the catalogue, or a YAML file of one) from a source.

    Raises ProfileError that names what is wrong with the source, with file and row, or that there is no such GPU.
    """
    gpu = find_gpu(system)
    chosen = SOURCES[source]
    return build_tables(chosen.read(gpu, path), gpu, today, chosen.notice)
