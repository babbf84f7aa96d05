"""Kernel tables on disk: one packed CSV a kind, beside a `table.yaml` with provenance, findings, errors and digests.

A line of `<kind>.csv.gz` is one curve (of decode attention: one batch of it): its key, then the time in microseconds at
each size of the header. An empty cell is a point that was not measured or that a lint left out.
"""

import gzip
import hashlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from profiles.catalogue_files import Provenance, checked, parse_yaml
from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.kernel_grid import Grid
from profiles.kernel_kinds import KINDS, Key, Kind
from profiles.kernel_lints import Finding

FOLDER = "kernels"
INDEX = "table.yaml"
US_PER_S = 1e6
DIGITS = 5
MAX_UNPACKED_BYTES = 40_000_000


class TableError(BaseModel):
    """How far a kind's table is off on points it has not seen, as fractions of the measured time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int
    median_error_fraction: float
    p90_error_fraction: float


class TableFile(BaseModel):
    """One kind's packed table. `left_out`: points read from their neighbours; `unseen_shape`: from other curves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    curves: int
    points: int
    left_out: TableError | None = None
    unseen_shape: TableError | None = None


class TableIndex(BaseModel):
    """What `table.yaml` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    device: str
    notice: str = ""
    sources: tuple[Provenance, ...] = Field(min_length=1)
    tables: dict[str, TableFile]
    findings: tuple[Finding, ...] = ()


def pack(grid: Grid) -> bytes:
    """The packed table of a grid: the same bytes for the same grid."""
    lines = [",".join((*grid.kind.lines, *(f"{s:.0f}" for s in grid.sizes.tolist())))]
    for i, key in enumerate(grid.keys):
        for j, batch in enumerate(grid.batches.tolist()):
            times = grid.seconds[i, j]
            if np.isfinite(times).any():
                name = key if grid.kind.batch is None else (*key, int(batch))
                cells = ("" if np.isnan(t) else f"{t * US_PER_S:.{DIGITS}g}" for t in times.tolist())
                lines.append(",".join((*map(str, name), *cells)))
    return gzip.compress("\n".join((*lines, "")).encode(), compresslevel=9, mtime=0)


def unpack(packed: bytes, kind: Kind, origin: str) -> Grid:
    """The grid that `pack` wrote; ProfileError that names the line when the bytes are anything else."""
    header, rows = _lines(packed, origin)
    if tuple(header[: len(kind.lines)]) != kind.lines:
        raise ProfileError(f"{origin}, line 1: must begin with {','.join(kind.lines)}.")
    sizes = np.array(_numbers(header[len(kind.lines) :], origin, 1))
    if not sizes.size or np.isnan(sizes).any() or (np.diff(sizes) <= 0).any():
        raise ProfileError(f"{origin}, line 1: the sizes must increase.")
    keys: dict[Key, int] = {}
    read: list[tuple[int, float, list[float]]] = []
    for line, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise ProfileError(f"{origin}, line {line}: {len(cells)} values under {len(header)} columns.")
        key, batch = _key(cells, kind, origin, line)
        times = _numbers(cells[len(kind.lines) :], origin, line)
        read.append((keys.setdefault(key, len(keys)), batch, times))
    return _assembled(kind, tuple(keys), read, sizes)


def _assembled(
    kind: Kind, keys: tuple[Key, ...], read: Sequence[tuple[int, float, list[float]]], sizes: np.ndarray
) -> Grid:
    batches, batch_of = np.unique(np.array([batch for _, batch, _ in read]), return_inverse=True)
    seconds = np.full((len(keys), batches.size, sizes.size), np.nan)
    seconds[[i for i, _, _ in read], batch_of] = np.array([times for _, _, times in read]) / US_PER_S
    return Grid(kind=kind, keys=keys, batches=batches, sizes=sizes, seconds=seconds)


def _lines(packed: bytes, origin: str) -> tuple[list[str], list[list[str]]]:
    try:
        with gzip.open(io.BytesIO(packed)) as file:
            text = file.read(MAX_UNPACKED_BYTES).decode("ascii")
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise ProfileError(f"{origin} is truncated or no packed table; import it again.") from error
    lines = [line.split(",") for line in text.splitlines()]
    if len(lines) < 2:
        raise ProfileError(f"{origin} has no curves.")
    return lines[0], lines[1:]


def _key(cells: list[str], kind: Kind, origin: str, line: int) -> tuple[Key, float]:
    try:
        key = tuple(c if n in kind.texts else int(c) for n, c in zip(kind.keys, cells, strict=False))
        return key, 1.0 if kind.batch is None else float(int(cells[len(kind.keys)]))
    except ValueError as error:
        raise ProfileError(f"{origin}, line {line}: {error}.") from error


def _numbers(cells: Sequence[str], origin: str, line: int) -> list[float]:
    try:
        values = [float(c) if c else np.nan for c in cells]
    except ValueError as error:
        raise ProfileError(f"{origin}, line {line}: {error}.") from error
    if any(v <= 0 or v == np.inf for v in values):
        raise ProfileError(f"{origin}, line {line}: a value is not above 0.")
    return values


def check_replaceable(folder: Path) -> None:
    """ProfileError when a folder exists and holds anything but kernel tables."""
    if folder.exists() and not (folder / INDEX).is_file():
        raise ProfileError(f"{folder} exists and holds no kernel tables: give another folder.")


def write_tables(
    folder: Path, index: TableIndex, packed: Mapping[str, bytes], beside: Mapping[str, str] | None = None
) -> None:
    """Write the tables of one GPU, and files `beside` them, whole or not at all; what the folder held is replaced.

    Raises ProfileError when the folder holds anything but kernel tables, or cannot be written.
    """
    check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _fill(staged, index, packed)
            for name, text in (beside or {}).items():
                (staged / name).write_text(text, encoding="utf-8")
            _swap(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise ProfileError(f"{folder} cannot be written: {error.strerror}.") from error


def _fill(folder: Path, index: TableIndex, packed: Mapping[str, bytes]) -> None:
    folder.chmod(0o755)
    for kind, payload in packed.items():
        (folder / f"{kind}.csv.gz").write_bytes(payload)
    text = yaml.safe_dump(index.model_dump(mode="json"), sort_keys=False, width=140, allow_unicode=True)
    (folder / INDEX).write_text(text, encoding="utf-8")


def _swap(staged: Path, folder: Path) -> None:
    """Put the staged folder where `folder` is; an old one is moved aside first and removed last."""
    if not folder.exists():
        staged.rename(folder)
        return
    aside = staged.with_name(staged.name + ".old")
    folder.rename(aside)
    try:
        staged.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


def digest(payload: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(payload).hexdigest()


def tables_folder(gpu: Gpu) -> Path | None:
    """Where a GPU's tables lie: those that ship under the name it gives, the folder of a path it gives, or None."""
    if gpu.kernels is None:
        return None
    if "/" in gpu.kernels or "\\" in gpu.kernels:
        return Path(gpu.kernels)
    if gpu.kernels != gpu.name:
        return None
    return Path(str(resources.files("profiles").joinpath("data", FOLDER, gpu.kernels)))


def read_index(folder: Path) -> TableIndex:
    """The index of a folder of tables; ProfileError when there is none or it does not fit."""
    path = folder / INDEX
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} cannot be read: import the tables again.") from error
    return checked(parse_yaml(text, str(path)), TableIndex, str(path))


def index_stamp(folder: Path) -> int:
    """A number that changes when the tables of a folder are imported anew; 0 when there are none."""
    path = folder / INDEX
    return path.stat().st_mtime_ns if path.is_file() else 0


def load_grids(folder: Path, index: TableIndex) -> Mapping[str, Grid]:
    """Every table of a folder, checked against its digest; ProfileError names the file at fault."""
    grids = {}
    for name, table in index.tables.items():
        path = folder / f"{name}.csv.gz"
        if name not in KINDS:
            raise ProfileError(f"{folder / INDEX}: {name} is no kind of kernel; known are {', '.join(KINDS)}.")
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise ProfileError(f"{path} cannot be read: {error.strerror}.") from error
        if digest(packed) != table.sha256:
            raise ProfileError(f"{path} is not the file that was imported (its digest differs); import it again.")
        grids[name] = unpack(packed, KINDS[name], str(path))
    return grids
