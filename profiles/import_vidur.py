"""Reads the GEMM and all-reduce profiles of Vidur (Microsoft, MIT; arXiv 2405.05465): CSV files, times in ms, 16 bit.

`mlp.csv` times a model's projections at each tp; its attention profiles are not read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profiles.csv_table import Row, read_rows
from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.import_tables import Reading
from profiles.kernel_grid import Samples, joined, samples_of
from profiles.kernel_kinds import KINDS, Column
from profiles.units import s_from_ms

MOST_BYTES = 40_000_000
FOLDERS: Mapping[str, tuple[str, str]] = {
    "a100-sxm-80gb": ("a100", "a100_dgx"),
    "h100-sxm-80gb": ("h100", "h100_dgx"),
}
"""Folder under `compute` and under `network` by GPU."""
SHAPE = (
    "n_head",
    "n_kv_head",
    "n_embd",
    "n_expanded_embd",
    "use_gated_mlp",
    "num_tokens",
    "num_tensor_parallel_workers",
)
REDUCTION = ("time_stats.all_reduce.median", "num_workers", "size", "devices_per_node")
PROJECTIONS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured point and the line it is from."""

    values: tuple[str | float, ...]
    seconds: float
    line: int


def read_vidur(gpu: Gpu, source: Path) -> Reading:
    """The points of one GPU from Vidur's repository or its `data/profiling`; ProfileError names the line."""
    if gpu.name not in FOLDERS:
        raise ProfileError(f"Vidur has no profiles of {gpu.name!r} that can be read; it has {', '.join(FOLDERS)}.")
    compute, network = FOLDERS[gpu.name]
    root = next((p for p in (source, source / "data" / "profiling") if (p / "compute" / compute).is_dir()), None)
    if root is None:
        raise ProfileError(f"{source} holds no compute/{compute}; give Vidur's repository or its data/profiling.")
    samples = [
        _samples("gemm", path, [p for row in read_rows(path, _columns(), MOST_BYTES) for p in _products(row)])
        for path in sorted((root / "compute" / compute).rglob("mlp.csv"))
    ]
    samples.append(_reductions(root / "network" / network / "all_reduce.csv"))
    if len(samples) == 1:
        raise ProfileError(f"{root / 'compute' / compute} holds no mlp.csv.")
    origin = f"Vidur (github.com/microsoft/vidur), data/profiling/compute/{compute} and network/{network}"
    return Reading(samples=[joined(samples[:-1]), samples[-1]], device=compute, origin=origin)


def _columns() -> tuple[str, ...]:
    return (*SHAPE, *(f"time_stats.{name}.median" for name in PROJECTIONS))


def _products(row: Row) -> Iterator[Point]:
    """The four projections that one line times; an empty cell is one that was not measured."""
    heads, kv_heads, hidden = (row.whole(c, least=1) for c in ("n_head", "n_kv_head", "n_embd"))
    expanded, tp = row.whole("n_expanded_embd", least=1), row.whole("num_tensor_parallel_workers", least=1)
    ups = 2 if row.text("use_gated_mlp") == "True" else 1
    keys = heads // tp + 2 * max(kv_heads // tp, 1)
    shapes = {
        "attn_pre_proj": (keys * hidden // heads, hidden),
        "attn_post_proj": (hidden, hidden // tp),
        "mlp_up_proj": (ups * expanded // tp, hidden),
        "mlp_down_proj": (hidden, expanded // tp),
    }
    for name, (n, k) in shapes.items():
        column = f"time_stats.{name}.median"
        if row.values[column].strip():
            time_s = s_from_ms(row.number(column, above=0))
            yield Point(values=("bf16", n, k, row.whole("num_tokens", least=1)), seconds=time_s, line=row.line)


def _reductions(path: Path) -> Samples:
    points = []
    for row in read_rows(path, REDUCTION, MOST_BYTES):
        gpus = row.whole("num_workers", least=1)
        if 1 < gpus <= row.whole("devices_per_node", least=1):
            seconds = s_from_ms(row.number("time_stats.all_reduce.median", above=0))
            values = ("all_reduce", gpus, row.whole("size", least=1))
            points.append(Point(values=values, seconds=seconds, line=row.line))
    return _samples("collective", path, points)


def _samples(kind: str, path: Path, points: list[Point]) -> Samples:
    columns: dict[str, Column] = {}
    for i, name in enumerate(KINDS[kind].columns):
        values = [p.values[i] for p in points]
        columns[name] = np.array(values, dtype=np.str_) if name in KINDS[kind].texts else np.array(values, dtype=float)
    seconds, lines = np.array([p.seconds for p in points]), np.array([p.line for p in points], dtype=np.int64)
    return samples_of(KINDS[kind], str(path), columns, seconds, lines)
