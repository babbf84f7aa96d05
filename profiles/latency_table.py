"""Models known only by measurement: the latency of each pipeline stage at each batch size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiles.csv_table import Row, read_rows
from profiles.errors import ProfileError

COLUMNS = ("gpu", "tp", "pp", "batch", "stage", "latency_s", "weight_bytes")
MAX_WAYS = 4096
MAX_BATCH = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Measured latencies of one model on one kind of GPU with one parallelism.

    `batch_sizes[b]` int64, increasing; `stage_latency_s[b, s]` seconds of a batch in stage s; `weight_bytes[s]` int64,
    bytes on each GPU of stage s. The arrays are read-only.
    """

    gpu: str
    tp: int
    pp: int
    batch_sizes: NDArray[np.int64]
    stage_latency_s: NDArray[np.float64]
    weight_bytes: NDArray[np.int64]

    @property
    def max_batch(self) -> int:
        """The largest batch measured."""
        return int(self.batch_sizes[-1])

    def latency_s(self, batch: int) -> NDArray[np.float64]:
        """Seconds of a batch in each stage: that of the smallest measured batch that holds it; ValueError beyond."""
        if not 1 <= batch <= self.max_batch:
            raise ValueError(f"batch {batch} is outside 1 to {self.max_batch}")
        row = int(np.searchsorted(self.batch_sizes, batch))
        return np.asarray(self.stage_latency_s[row])


Key = tuple[str, int, int]
Cell = tuple[float, int]


def read_latency_tables(path: Path) -> dict[Key, LatencyTable]:
    """(gpu, tp, pp) → table, from a CSV file with the columns of `COLUMNS`; stages are numbered 0 to pp − 1.

    Raises ProfileError, with line and column, for NaN, infinite, negative or zero latencies, fractions where counts are
    needed, a row given twice, a stage that some batch size lacks, and weights that differ between batch sizes.
    """
    cells: dict[Key, dict[tuple[int, int], Cell]] = {}
    for row in read_rows(path, COLUMNS):
        key, place, cell = _read(row)
        table = cells.setdefault(key, {})
        if place in table:
            raise row.fault("batch", f"stage {place[1]} of batch {place[0]} on {_shown(key)} was given before")
        table[place] = cell
    return {key: _table(path, key, table) for key, table in cells.items()}


def _read(row: Row) -> tuple[Key, tuple[int, int], Cell]:
    tp, pp = row.whole("tp", least=1), row.whole("pp", least=1)
    batch, stage = row.whole("batch", least=1), row.whole("stage", least=0)
    for column, value, most in (("tp", tp, MAX_WAYS), ("pp", pp, MAX_WAYS), ("batch", batch, MAX_BATCH)):
        if value > most:
            raise row.fault(column, f"must be at most {most}, not {value}")
    if stage >= pp:
        raise row.fault("stage", f"must be at most {pp - 1} with pp {pp}, not {stage}")
    latency_s, weight_bytes = row.number("latency_s", above=0), row.whole("weight_bytes", least=0)
    return (row.text("gpu"), tp, pp), (batch, stage), (latency_s, weight_bytes)


def _table(path: Path, key: Key, cells: Mapping[tuple[int, int], Cell]) -> LatencyTable:
    gpu, tp, pp = key
    batches = sorted({batch for batch, _ in cells})
    for batch in batches:
        missing = next((stage for stage in range(pp) if (batch, stage) not in cells), None)
        if missing is not None:
            raise ProfileError(f"{path}: batch {batch} on {_shown(key)} has no row for stage {missing}.")
    weights = [_weight(path, key, stage, (cells[batch, stage][1] for batch in batches)) for stage in range(pp)]
    latencies = np.array([[cells[batch, stage][0] for stage in range(pp)] for batch in batches])
    table = LatencyTable(
        gpu=gpu,
        tp=tp,
        pp=pp,
        batch_sizes=np.array(batches, dtype=np.int64),
        stage_latency_s=latencies,
        weight_bytes=np.array(weights, dtype=np.int64),
    )
    for array in (table.batch_sizes, table.stage_latency_s, table.weight_bytes):
        array.setflags(write=False)
    return table


def _weight(path: Path, key: Key, stage: int, given: Iterable[int]) -> int:
    weights = set(given)
    if len(weights) > 1:
        raise ProfileError(
            f"{path}: weight_bytes of stage {stage} on {_shown(key)} differ between batch sizes:"
            f" {min(weights)} and {max(weights)}."
        )
    return weights.pop()


def _shown(key: Key) -> str:
    return f"{key[0]} with tp {key[1]}, pp {key[2]}"
