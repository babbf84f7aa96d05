"""Measured times of one kind of kernel on one device: points, the checks they must pass, and the grid they make."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.kernel_kinds import Columns, Key, Kind
from profiles.roofline import FloatArray

LEAST_WORK_S = 1e-4
"""Kernels with at least this much to do are no more than UNIT_BOUNDS away from their roofline, so units show there."""
UNIT_BOUNDS = (0.1, 100.0)
LARGEST_SIZE = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Measured points of one kind: columns, seconds, and where each came from: a row of one of the `origins`."""

    kind: Kind
    origins: tuple[str, ...]
    columns: Columns
    seconds: FloatArray
    rows: NDArray[np.int64]
    origin_of: NDArray[np.int64]

    def fault(self, bad: NDArray[np.bool_], what: Callable[[int], str]) -> None:
        """Raise ProfileError for the first point that is bad."""
        if bad.any():
            index = int(np.argmax(bad))
            origin = self.origins[self.origin_of[index]]
            raise ProfileError(f"{origin}, row {self.rows[index]}: {what(index)}.")


def samples_of(kind: Kind, origin: str, columns: Columns, seconds: FloatArray, rows: NDArray[np.int64]) -> Samples:
    """Points of one file."""
    return Samples(
        kind=kind,
        origins=(origin,),
        columns=columns,
        seconds=seconds,
        rows=rows,
        origin_of=np.zeros(rows.size, dtype=np.int64),
    )


def joined(parts: Sequence[Samples]) -> Samples:
    """The points of several files of one kind."""
    return Samples(
        kind=parts[0].kind,
        origins=tuple(part.origins[0] for part in parts),
        columns={c: np.concatenate([p.columns[c] for p in parts]) for c in parts[0].kind.columns},
        seconds=np.concatenate([part.seconds for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        origin_of=np.repeat(np.arange(len(parts)), [part.rows.size for part in parts]),
    )


def check_samples(samples: Samples, gpu: Gpu) -> None:
    """Refuse times and sizes that cannot be, and a table whose unit is wrong; ProfileError names the first row."""
    if not samples.seconds.size:
        raise ProfileError(f"{samples.origins[0]} holds no {samples.kind.name} row that can be used.")
    seconds = samples.seconds
    samples.fault(~(np.isfinite(seconds) & (seconds > 0)), lambda i: f"latency must be above 0, not {seconds[i]:g} s")
    for name in samples.kind.columns:
        if name not in samples.kind.texts:
            _check_sizes(samples, name)
    ratio, large = _over_roofline(samples, gpu)
    low, high = UNIT_BOUNDS
    if large.any() and not low <= float(np.median(ratio[large])) <= high:
        samples.fault(
            large & ~((ratio >= low) & (ratio <= high)),
            lambda i: (
                f"{samples.kind.name} takes {seconds[i]:.3g} s, {ratio[i]:.2g} times what {gpu.name} can at best, and "
                "so do most others; the latency's unit or the device is not the one it was read as"
            ),
        )


def _over_roofline(samples: Samples, gpu: Gpu) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(time over the least possible time, whether the kernel has enough work for that to say something)."""
    least_s = samples.kind.work(samples.columns, gpu).least_s
    large = least_s >= LEAST_WORK_S
    return samples.seconds / np.where(large, least_s, 1.0), large


def _check_sizes(samples: Samples, name: str) -> None:
    values = np.asarray(samples.columns[name], dtype=np.float64)
    least = 0 if name == "window" else 1
    bad = ~((values >= least) & (values < LARGEST_SIZE) & (values == np.floor(values)))
    samples.fault(bad, lambda i: f"{name} must be a whole number of at least {least}, not {values[i]:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Curves of one kind: `seconds[key, batch, size]`, nan where nothing is held; kinds without batch have one, 1."""

    kind: Kind
    keys: tuple[Key, ...]
    batches: FloatArray
    sizes: FloatArray
    seconds: FloatArray

    def with_seconds(self, seconds: FloatArray) -> "Grid":
        """The same grid with other times; curves, batches and sizes that hold nothing any more are left out."""
        held = np.isfinite(seconds)
        keys, batches, sizes = (np.asarray(held.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        return replace(
            self,
            keys=tuple(key for key, kept in zip(self.keys, keys.tolist(), strict=True) if kept),
            batches=self.batches[batches],
            sizes=self.sizes[sizes],
            seconds=seconds[np.ix_(keys, batches, sizes)],
        )

    def columns(self) -> Columns:
        """Every cell of the grid as columns, in the order of `seconds.ravel()`."""
        shape = self.seconds.shape
        found: dict[str, NDArray[np.float64] | NDArray[np.str_]] = {}
        for index, name in enumerate(self.kind.keys):
            values = np.array([key[index] for key in self.keys], dtype=np.str_ if name in self.kind.texts else float)
            found[name] = np.broadcast_to(values[:, None, None], shape).ravel()
        if self.kind.batch is not None:
            found[self.kind.batch] = np.broadcast_to(self.batches[None, :, None], shape).ravel()
        found[self.kind.size] = np.broadcast_to(self.sizes[None, None, :], shape).ravel()
        return found

    def least_s(self, gpu: Gpu) -> FloatArray:
        """The roofline of every cell."""
        return self.kind.work(self.columns(), gpu).least_s.reshape(self.seconds.shape)


def grid_of(samples: Samples) -> Grid:
    """The points as a grid, sorted; of several times for the same point (several kernels) the least."""
    kind = samples.kind
    keys, key_of = _distinct_keys(samples)
    batches, batch_of = np.array([1.0]), np.zeros(samples.seconds.size, dtype=np.intp)
    if kind.batch is not None:
        batches, batch_of = np.unique(np.asarray(samples.columns[kind.batch], dtype=np.float64), return_inverse=True)
    sizes, size_of = np.unique(np.asarray(samples.columns[kind.size], dtype=np.float64), return_inverse=True)
    seconds = np.full((len(keys), batches.size, sizes.size), np.inf)
    np.minimum.at(seconds, (key_of, batch_of, size_of), samples.seconds)
    seconds[np.isinf(seconds)] = np.nan
    return Grid(kind=kind, keys=keys, batches=batches, sizes=sizes, seconds=seconds)


def _distinct_keys(samples: Samples) -> tuple[tuple[Key, ...], NDArray[np.intp]]:
    """(the keys in order, the index of each point's key)."""
    parts, codes = [], np.zeros(samples.seconds.size, dtype=np.int64)
    for name in samples.kind.keys:
        values, inverse = np.unique(samples.columns[name], return_inverse=True)
        parts.append(values.tolist() if name in samples.kind.texts else [int(v) for v in values])
        codes = codes * len(values) + inverse
    distinct, key_of = np.unique(codes, return_inverse=True)
    places = np.unravel_index(distinct, [len(p) for p in parts])
    keys = [tuple(part[i] for part, i in zip(parts, at, strict=True)) for at in zip(*places, strict=True)]
    return tuple(keys), np.asarray(key_of, dtype=np.intp)
