"""Models known only by their measured capacity: requests/s per GPU in buckets of input and output length."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiles.csv_table import read_rows

COLUMNS = ("gpu", "input_tokens_max", "output_tokens_max", "rate_rps")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityTable:
    """Measured capacity on one kind of GPU.

    Row r holds for requests of at most `input_tokens_max[r]` and `output_tokens_max[r]` tokens (int64): `rate_rps[r]`
    requests/s per GPU. The smallest bucket (by product of its limits, then by input) comes first; arrays are read-only.
    """

    gpu: str
    input_tokens_max: NDArray[np.int64]
    output_tokens_max: NDArray[np.int64]
    rate_rps: NDArray[np.float64]

    def bucket(self, input_tokens: int, output_tokens: int) -> int | None:
        """Row of the smallest bucket that covers the lengths; None when none does."""
        covers = (self.input_tokens_max >= input_tokens) & (self.output_tokens_max >= output_tokens)
        return int(np.argmax(covers)) if covers.any() else None

    def capacity_rps(self, input_tokens: int, output_tokens: int) -> float | None:
        """Requests/s per GPU at these lengths: that of the smallest covering bucket; None when none covers them."""
        row = self.bucket(input_tokens, output_tokens)
        return None if row is None else float(self.rate_rps[row])


Bucket = tuple[int, int]


def read_capacity_tables(path: Path) -> dict[str, CapacityTable]:
    """gpu → table, from a CSV file with the columns of `COLUMNS`.

    Raises ProfileError, with line and column, for values that are no numbers, not finite or not positive, and for a
    bucket given twice.
    """
    rates: dict[str, dict[Bucket, float]] = {}
    for row in read_rows(path, COLUMNS):
        bucket = row.whole("input_tokens_max", least=1), row.whole("output_tokens_max", least=1)
        table = rates.setdefault(row.text("gpu"), {})
        if bucket in table:
            raise row.fault(
                "input_tokens_max", f"bucket {bucket[0]} x {bucket[1]} on {row.text('gpu')} was given before"
            )
        table[bucket] = row.number("rate_rps", above=0)
    return {gpu: _table(gpu, table) for gpu, table in rates.items()}


def _table(gpu: str, rates: Mapping[Bucket, float]) -> CapacityTable:
    buckets = sorted(rates, key=lambda bucket: (bucket[0] * bucket[1], bucket))
    inputs = np.array([bucket[0] for bucket in buckets], dtype=np.int64)
    outputs = np.array([bucket[1] for bucket in buckets], dtype=np.int64)
    values = np.array([rates[bucket] for bucket in buckets])
    for array in (inputs, outputs, values):
        array.setflags(write=False)
    return CapacityTable(gpu=gpu, input_tokens_max=inputs, output_tokens_max=outputs, rate_rps=values)
