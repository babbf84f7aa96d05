"""Scores of simulated cells, kept from one plan to the next: a cell that sees the same requests scores the same."""

import hashlib
import pickle
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from planner.simulate_types import LlmCell, Requests, TableCell

MOST_CELLS = 500_000
Counts = tuple[list[int], list[int]]


class CellMemory:
    """(offered, attained) requests by the fingerprint of what was simulated; safe to share between threads."""

    def __init__(self) -> None:
        self._counts: dict[bytes, Counts] = {}
        self._lock = threading.Lock()

    def get(self, fingerprint: bytes) -> Counts | None:
        """The counts of a run that was simulated before."""
        with self._lock:
            return self._counts.get(fingerprint)

    def put(self, fingerprint: bytes, counts: Counts) -> None:
        """Keep the counts of a run; past half a million runs all are let go."""
        with self._lock:
            if len(self._counts) >= MOST_CELLS:
                self._counts.clear()
            self._counts[fingerprint] = counts


def fingerprint(
    cell: LlmCell | TableCell, requests: Requests, arrays: Sequence[np.ndarray[Any, Any]], said: str
) -> bytes:
    """A hash (BLAKE2b, 32 bytes) of all that a run and its scoring depend on: the cell, its requests, other arrays of
    one entry a request, and what else was said in words.
    """
    summary = hashlib.blake2b(digest_size=32)
    summary.update(pickle.dumps(cell, protocol=5))
    summary.update(said.encode())
    for array in (*(getattr(requests, field.name) for field in fields(requests)), *arrays):
        summary.update(f"{array.dtype}{array.shape}".encode())
        summary.update(np.ascontiguousarray(array).data)
    return summary.digest()
