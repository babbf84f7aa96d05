"""The measured kernels of one GPU as a source of times: a curve for any shape that the tables cover."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.gpus import Gpu
from profiles.kernel_curves import Curve, Surface, fill, not_falling_between
from profiles.kernel_grid import Grid
from profiles.kernel_kinds import MLA_LATENT, MLA_ROPE, Key
from profiles.kernel_store import INDEX, index_stamp, load_grids, read_index, tables_folder
from profiles.models import LatentAttention
from profiles.roofline import FloatArray

EXTENT: Mapping[str, float] = {"context": 2.0**26, "bytes": 2.0**38}
"""Up to where curves are continued at the efficiency of their last point; 2^21 for sizes not named."""
DEFAULT_EXTENT = 2.0**21
Weighted = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class KindTable:
    """The curves of one kind on one GPU."""

    grid: Grid
    gpu: Gpu

    @cached_property
    def rows(self) -> Mapping[Key, int]:
        """The row of each key."""
        return {key: i for i, key in enumerate(self.grid.keys)}

    @cached_property
    def _found(self) -> dict[tuple[object, ...], FloatArray]:
        """What `along` has found so far: it looks at every key."""
        return {}

    @cached_property
    def sizes(self) -> FloatArray:
        """The grid's sizes and doublings of the last up to the extent."""
        last = float(self.grid.sizes[-1])
        doublings = max(int(np.ceil(np.log2(EXTENT.get(self.grid.kind.size, DEFAULT_EXTENT) / last))), 0)
        return np.concatenate([self.grid.sizes, last * 2.0 ** np.arange(1, doublings + 1)])

    def along(self, part: int, fixed: Mapping[int, str | int]) -> FloatArray:
        """The distinct values of one part of the key, where other parts are fixed; increasing."""
        asked = (part, *fixed.items())
        if asked not in self._found:
            found = {key[part] for key in self.grid.keys if all(key[i] == v for i, v in fixed.items())}
            self._found[asked] = np.array(sorted(float(v) for v in found))
        return self._found[asked]

    def seconds(self, key: Key, donors: Weighted) -> tuple[FloatArray, FloatArray]:
        """([batch, size] seconds for a key, the same with nan where nothing was measured for it).

        A key of the table is its own donor; else the efficiencies of the donors are averaged by weight.
        """
        reference_s = self._reference_s([key])
        if len(donors) == 1 and self.grid.keys[donors[0][0]] == key:
            measured = self._extended(donors[0][0])
            return fill(measured[None], reference_s, self.sizes)[0], measured
        logs = np.zeros(reference_s.shape[1:])
        for row, weight in donors:
            own_s = self._reference_s([self.grid.keys[row]])
            logs += weight * np.log(fill(self._extended(row)[None], own_s, self.sizes) / own_s)[0]
        nothing = np.full(reference_s.shape, np.nan)
        return not_falling_between(np.exp(logs)[None] * reference_s, nothing)[0], nothing[0]

    def _extended(self, row: int) -> FloatArray:
        times = self.grid.seconds[row]
        return np.pad(times, ((0, 0), (0, self.sizes.size - times.shape[1])), constant_values=np.nan)

    def _reference_s(self, keys: Sequence[Key]) -> FloatArray:
        shape = (len(keys), self.grid.batches.size, self.sizes.size)
        blank = replace(self.grid, keys=tuple(keys), sizes=self.sizes, seconds=np.zeros(shape))
        return self.grid.kind.work(blank.columns(), self.gpu).reference_s.reshape(shape)

    def curve(self, key: Key, donors: Weighted, shape: Evidence, exponent: float = 1.0) -> Curve:
        """The curve of a key over its size."""
        seconds, measured = self.seconds(key, donors)
        return Curve(
            at=self.sizes,
            seconds=seconds[0],
            held=np.isfinite(measured[0]),
            last=float(self.grid.sizes[-1]),
            shape=shape,
            exponent=exponent,
        )

    def surface(self, key: Key, donors: Weighted, shape: Evidence) -> Surface:
        """The surface of a key over batch and context."""
        seconds, measured = self.seconds(key, donors)
        held = np.isfinite(measured)
        if shape is not Evidence.MEASURED:
            held = np.isfinite(self._extended(donors[0][0]))
        return Surface(batches=self.grid.batches, contexts=self.sizes, seconds=seconds, held=held, shape=shape)


@dataclass(frozen=True, kw_only=True)
class KernelTables:
    """The kernel tables of one GPU. Every method gives None for a shape that they do not cover."""

    gpu: Gpu
    kinds: Mapping[str, KindTable]

    def gemm(self, operand: str, n: int, k: int) -> Curve | None:
        """An (m, k) x (k, n) product over m: between measured n and k by efficiency, beyond them at the nearest's."""
        table = self.kinds.get("gemm")
        if table is None:
            return None
        key = (operand, n, k)
        if key in table.rows:
            return table.curve(key, [(table.rows[key], 1.0)], Evidence.MEASURED)
        ns, ks = table.along(1, {0: operand}), table.along(2, {0: operand})
        if not ns.size:
            return None
        corners = [((operand, int(a), int(b)), u * v) for a, u in between(ns, n) for b, v in between(ks, k)]
        donors = [(table.rows[corner], weight) for corner, weight in corners if corner in table.rows]
        inside = ns[0] <= n <= ns[-1] and ks[0] <= k <= ks[-1] and len(donors) == len(corners)
        return table.curve(key, _normal(donors), _shape(bool(inside))) if donors else None

    def prefill(self, operand: str, head_dim: int, heads: int, kv_heads: int, window: int) -> Curve | None:
        """Attention over one prompt, over its tokens: between measured numbers of query heads by efficiency."""
        found = self._attention("prefill_attention", (operand, head_dim, heads, kv_heads, window), nearest_kv=True)
        return found[0].curve(*found[1:], exponent=0.5) if found else None

    def decode(self, operand: str, head_dim: int, heads: int, kv_heads: int, window: int) -> Surface | None:
        """Attention of one new token a sequence, over batch and context.

        With more KV heads than were measured: as a batch larger in proportion, with fewer (the cache is as large, and
        the kernel works through sequences and KV heads alike; on B200 that is 7 to 27 % off in the median).
        """
        table = self.kinds.get("decode_attention")
        if table is None:
            return None
        fold = _fold(table.along(3, {0: operand, 1: head_dim, 4: window}), heads, kv_heads)
        key: Key = (operand, head_dim, heads // fold, kv_heads // fold, window)
        found = self._attention("decode_attention", key, nearest_kv=False)
        if found is None:
            return None
        _, key, donors, shape = found
        surface = table.surface(key, donors, shape if fold == 1 else Evidence.SCALED)
        return replace(surface, batch_factor=float(fold))

    def latent_prefill(self, operand: str, mla: LatentAttention, heads: int) -> Curve | None:
        """MLA attention over one prompt, over its tokens."""
        found = self._latent("mla_prefill", operand, mla, heads)
        return found if isinstance(found, Curve) else None

    def latent_decode(self, operand: str, mla: LatentAttention, heads: int) -> Surface | None:
        """MLA attention of one new token a sequence, over batch and context."""
        found = self._latent("mla_decode", operand, mla, heads)
        return found if isinstance(found, Surface) else None

    def moe(self, key: Key) -> Curve | None:
        """The routed experts of one of tp x ep ranks over tokens; only shapes that were measured."""
        return self._exact("moe", key)

    def norm(self, operand: str, hidden: int) -> Curve | None:
        """A residual added and normalised, over tokens."""
        return self._exact("norm", (operand, hidden))

    def collective(self, operation: str, gpus: int) -> Curve | None:
        """A collective of GPUs in one node over the bytes of the message."""
        return self._exact("collective", (operation, gpus))

    def _exact(self, kind: str, key: Key) -> Curve | None:
        table = self.kinds.get(kind)
        if table is None or key not in table.rows:
            return None
        return table.curve(key, [(table.rows[key], 1.0)], Evidence.MEASURED)

    def _attention(self, kind: str, key: Key, *, nearest_kv: bool) -> tuple[KindTable, Key, Weighted, Evidence] | None:
        operand, head_dim, _, kv_heads, window = key
        table = self.kinds.get(kind)
        if table is None:
            return None
        if key in table.rows:
            return table, key, [(table.rows[key], 1.0)], Evidence.MEASURED
        same = {0: operand, 1: head_dim, 4: window}
        kv_known = table.along(3, same)
        if not kv_known.size or (not nearest_kv and kv_heads not in kv_known):
            return None
        kv = int(kv_known[np.argmin(np.abs(np.log(kv_known / float(kv_heads))))])
        heads = table.along(2, {**same, 3: kv})
        found = _by_heads(table, key, lambda h: (operand, head_dim, h, kv, window), heads)
        return found if found is None or kv == kv_heads else (*found[:3], Evidence.SCALED)

    def _latent(self, kind: str, operand: str, mla: LatentAttention, heads: int) -> Curve | Surface | None:
        if kind not in self.kinds or (mla.kv_lora_rank, mla.qk_rope_head_dim) != (MLA_LATENT, MLA_ROPE):
            return None
        return latent_attention(self.kinds[kind], operand, heads)


def latent_attention(table: KindTable, operand: str, heads: int) -> Curve | Surface | None:
    """MLA attention with that many heads on the device, from its prefill or decode table."""
    found = _by_heads(table, (operand, heads), lambda h: (operand, h), table.along(1, {0: operand}))
    if found is None:
        return None
    return table.curve(*found[1:], exponent=0.5) if table.grid.kind.batch is None else table.surface(*found[1:])


def _by_heads(
    table: KindTable, key: Key, key_of: Callable[[int], Key], known: FloatArray
) -> tuple[KindTable, Key, Weighted, Evidence] | None:
    """A key whose heads may lie between those known."""
    if key in table.rows:
        return table, key, [(table.rows[key], 1.0)], Evidence.MEASURED
    if not known.size:
        return None
    heads = float(key[table.grid.kind.keys.index("heads")])
    donors = [(table.rows[key_of(int(h))], w) for h, w in between(known, heads)]
    return table, key, donors, _shape(bool(known[0] <= heads <= known[-1]))


def _fold(known: FloatArray, heads: int, kv_heads: int) -> int:
    """By how much KV heads (and query heads) must be divided to be among the known ones; 1 when no number does."""
    for fold in range(1, kv_heads + 1):
        if kv_heads % fold == 0 and heads % fold == 0 and kv_heads // fold in known:
            return fold
    return 1


def between(known: FloatArray, at: float) -> list[tuple[float, float]]:
    """The (one or two) known values around a value, with weights linear in the logarithm; the end's own beyond it."""
    if at <= known[0] or at >= known[-1]:
        return [(float(known[0] if at <= known[0] else known[-1]), 1.0)]
    high = int(np.searchsorted(known, at))
    if known[high] == at:
        return [(at, 1.0)]
    low_value, high_value = float(known[high - 1]), float(known[high])
    part = np.log(at / low_value) / np.log(high_value / low_value)
    return [(low_value, 1.0 - float(part)), (high_value, float(part))]


def _normal(donors: Weighted) -> Weighted:
    total = sum(weight for _, weight in donors)
    return [(row, weight / total) for row, weight in donors]


def _shape(inside: bool) -> Evidence:
    return Evidence.INTERPOLATED if inside else Evidence.SCALED


def tables_of(gpu: Gpu) -> KernelTables | None:
    """The tables of a GPU, None when it has none (shipped ones serve only the GPU they were measured on).

    Raises ProfileError when they are missing or damaged, or those of a path are another GPU's.
    """
    folder = tables_folder(gpu)
    return None if folder is None else load_tables(folder, gpu)


def load_tables(folder: Path, gpu: Gpu) -> KernelTables:
    """The tables in a folder, for that GPU; ProfileError when they are another GPU's, are missing or damaged."""
    return _load_tables(folder, index_stamp(folder), gpu.model_dump_json())


@lru_cache(maxsize=16)
def _load_tables(folder: Path, stamp: int, gpu_json: str) -> KernelTables:
    """Kept for as long as the index on disk is the same (`stamp`)."""
    del stamp
    gpu = Gpu.model_validate_json(gpu_json)
    index = read_index(folder)
    if index.gpu != gpu.name:
        raise ProfileError(f"{folder / INDEX}: the tables are of {index.gpu}, not of {gpu.name}.")
    grids = load_grids(folder, index)
    return KernelTables(gpu=gpu, kinds={name: KindTable(grid=grid, gpu=gpu) for name, grid in grids.items()})
