"""What measured tables get wrong, found when they are imported: points that fail are left out and reported.

What is left are times as they were measured; reading fills the holes (`kernel_table`). No lint is silent.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from profiles.gpus import Gpu
from profiles.kernel_grid import Grid
from profiles.roofline import FloatArray

Mask = NDArray[np.bool_]

ROOFLINE_TOLERANCE = 0.05
LONE_DIP = 0.6
FALL = 0.02
MODES = 1.3
"""Adjacent times that differ by this factor, up and down again, belong to two modes."""
MODE_SWITCHES = 4
OVERHEAD = 4.0
"""A large GEMM that takes this many times its roofline, the same for every small m, measures start-up."""
OVERHEAD_FLAT = 1.15
OVERHEAD_WORK_S = 5e-6
SLOWER_THAN_WIDER = 1.1
DROP_SLOWER_THAN_WIDER = 1.3
LARGE_WEIGHT = 2048
SMALL_ROWS = 64
LEAST_LINK_FRACTION = 0.25
LINK_MESSAGE_BYTES = 64e6
BUMP = 1.5
WIDER = {"fp8": "bf16", "fp8_block": "bf16", "fp4": "fp8", "int8": "bf16"}


class Finding(BaseModel):
    """One fault of a table: how many of its points, how bad the worst is, what was done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    kernel: str
    subject: str
    points: int
    of_points: int
    worst: float
    action: str


def lint(grid: Grid, gpu: Gpu) -> tuple[Grid, tuple[Finding, ...]]:
    """(the grid without the points that cannot be, what was found); `drop_falling` comes after it."""
    findings: list[Finding] = []
    for rule in (_faster_than_roofline, _lone_dips, _narrow_types, _overhead, _slow_links, _bumps, _two_modes):
        if grid.keys:
            grid, found = rule(grid, gpu)
            findings += found
    return grid, tuple(findings)


def _subjects(grid: Grid) -> NDArray[np.str_]:
    return np.array([str(key[0]) for key in grid.keys])


def _report(grid: Grid, rule: str, bad: Mask, badness: FloatArray, action: str) -> list[Finding]:
    """One finding per subject that has bad points."""
    subjects, found = _subjects(grid), []
    for subject in np.unique(subjects).tolist():
        mine = subjects == subject
        count = int(bad[mine].sum())
        if count:
            found.append(
                Finding(
                    rule=rule,
                    kernel=grid.kind.name,
                    subject=subject,
                    points=count,
                    of_points=int(np.isfinite(grid.seconds[mine]).sum()),
                    worst=round(float(badness[mine][bad[mine]].max()), 3),
                    action=action,
                )
            )
    return found


def _without(grid: Grid, bad: Mask) -> Grid:
    return grid.with_seconds(np.where(bad, np.nan, grid.seconds)) if bad.any() else grid


def _faster_than_roofline(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Points that beat the memory or the arithmetic of the device: data came from a warm cache."""
    speedup = grid.least_s(gpu) / grid.seconds
    bad = speedup > 1 + ROOFLINE_TOLERANCE
    return _without(grid, bad), _report(grid, "faster than roofline", bad, speedup, "left out")


def _lone_dips(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Points far below all of up to two neighbours on either side."""
    del gpu
    t = grid.seconds
    padded = np.pad(t, ((0, 0), (0, 0), (2, 2)), constant_values=np.nan)
    near = np.stack([padded[:, :, s : s + t.shape[2]] for s in (0, 1, 3, 4)])
    both = np.isfinite(near[:2]).any(axis=0) & np.isfinite(near[2:]).any(axis=0)
    least = np.min(np.where(np.isfinite(near), near, np.inf), axis=0)
    bad = both & (t < LONE_DIP * least)
    depth = np.where(bad, least / t, 1.0)
    return _without(grid, bad), _report(grid, "far faster than its neighbours", bad, depth, "left out")


def _overhead(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """GEMMs that are mostly start-up time: flat in m and far above the roofline on large weights."""
    if grid.kind.name != "gemm":
        return grid, []
    bad = _flat_and_slow(grid, gpu)[:, None, None] & np.isfinite(grid.seconds)
    ratio = grid.seconds / grid.least_s(gpu)
    return _without(grid, bad), _report(grid, "flat overhead", bad, ratio, "curves left out")


def _flat_and_slow(grid: Grid, gpu: Gpu) -> Mask:
    """Curves that are flat overhead over their small m, of those with enough work to tell."""
    small = grid.sizes <= SMALL_ROWS
    t = grid.seconds[:, 0, :][:, small]
    least = grid.least_s(gpu)[:, 0, :][:, small]
    held = np.isfinite(t)
    large = (np.max(np.where(held, least, 0.0), axis=1, initial=0.0) >= OVERHEAD_WORK_S) & (held.sum(axis=1) > 1)
    low = np.min(np.where(held, t, np.inf), axis=1, initial=np.inf)
    median = np.array([np.median(row[h]) if h.any() else np.inf for row, h in zip(t, held, strict=True)])
    excess = np.min(np.where(held, t / least, np.inf), axis=1, initial=np.inf)
    return np.asarray(large & (excess > OVERHEAD) & (median < OVERHEAD_FLAT * low))


def _narrow_types(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Narrow operand types that lose against the wider one; one of GEMMs that does so on reading weights goes."""
    del gpu
    if "operand" not in grid.kind.keys:
        return grid, []
    place = {key: i for i, key in enumerate(grid.keys)}
    least = least_from_here(grid.seconds)
    ratio = np.full(grid.seconds.shape, np.nan)
    for key, i in place.items():
        wider = place.get((WIDER.get(str(key[0]), ""), *key[1:]))
        if wider is not None:
            ratio[i] = np.where(np.isfinite(grid.seconds[i]), least[i], np.nan) / least[wider]
    bad, dropped = ratio > SLOWER_THAN_WIDER, np.zeros(ratio.shape, dtype=bool)
    if grid.kind.name != "gemm":
        return grid, _report(grid, "slower than a wider type", bad, ratio, "kept")
    large = np.array([min(int(key[1]), int(key[2])) >= LARGE_WEIGHT for key in grid.keys])
    reads = large[:, None, None] & (grid.sizes <= SMALL_ROWS)[None, None, :] & np.isfinite(ratio)
    for subject in np.unique(_subjects(grid)).tolist():
        mine = (_subjects(grid) == subject)[:, None, None]
        if (reads & mine).any() and np.median(ratio[reads & mine]) > DROP_SLOWER_THAN_WIDER:
            dropped |= mine & np.isfinite(grid.seconds)
    found = _report(grid, "slower than a wider type", bad & ~dropped, ratio, "kept")
    whole = "operand type left out: its large weights are read slower than the wider type's"
    found += _report(grid, "slower than a wider type", bad & dropped, ratio, whole)
    return _without(grid, dropped), found


def _slow_links(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Collectives whose large messages reach only a small part of the link: a host without peer-to-peer access."""
    if grid.kind.name != "collective":
        return grid, []
    slowdown = grid.seconds / grid.least_s(gpu)
    large = np.isfinite(grid.seconds) & (grid.sizes >= LINK_MESSAGE_BYTES)[None, None, :]
    best = np.min(np.where(large, slowdown, np.inf), axis=2, initial=np.inf)
    slow = (best > 1 / LEAST_LINK_FRACTION)[:, :, None] & np.isfinite(best)[:, :, None]
    bad = slow & np.isfinite(grid.seconds)
    badness = np.where(large, slowdown, 0.0)
    action = "left out: the host's, not the device's"
    return _without(grid, bad), _report(grid, "implausible link bandwidth", bad, badness, action)


def _bumps(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Collectives far slower than the power law between messages a quarter and four times as large."""
    del gpu
    if grid.kind.name != "collective":
        return grid, []
    excess = np.ones(grid.seconds.shape)
    for i, j in np.argwhere(np.isfinite(grid.seconds[:, 0, :])).tolist():
        held = np.isfinite(grid.seconds[i, 0])
        below = np.flatnonzero(held & (grid.sizes <= grid.sizes[j] / 4))
        above = np.flatnonzero(held & (grid.sizes >= grid.sizes[j] * 4))
        if below.size and above.size:
            ends = [int(below[-1]), int(above[0])]
            law = np.interp(np.log(grid.sizes[j]), np.log(grid.sizes[ends]), np.log(grid.seconds[i, 0, ends]))
            excess[i, 0, j] = grid.seconds[i, 0, j] / np.exp(law)
    bad = excess > BUMP
    return _without(grid, bad), _report(grid, "slower than its neighbours allow", bad, excess, "left out")


def _two_modes(grid: Grid, gpu: Gpu) -> tuple[Grid, list[Finding]]:
    """Curves that switch between two levels again and again; the upper one falls as work grows, and goes with that."""
    del gpu
    upper = np.zeros(grid.seconds.shape, dtype=bool)
    jump = np.ones(grid.seconds.shape)
    for index in np.ndindex(grid.seconds.shape[:2]):
        held = np.flatnonzero(np.isfinite(grid.seconds[index]))
        step = np.log(grid.seconds[index][held[1:]] / grid.seconds[index][held[:-1]])
        down = step < -np.log(MODES)
        if down.sum() >= MODE_SWITCHES:
            upper[index][held[:-1][down]] = True
            jump[index][held[:-1][down]] = np.exp(-step[down])
    return grid, _report(grid, "two modes", upper, jump, "the upper one left out as falling")


def drop_falling(grid: Grid) -> tuple[Grid, list[Finding]]:
    """(the grid without points above a later one, what was found); every curve left is non-decreasing in every size.

    A smaller piece of work can be padded up to a larger one, so it costs no more.
    """
    excess = grid.seconds / least_from_here(grid.seconds)
    bad, by_much = excess > 1.0, excess > 1.0 + FALL
    found = _report(grid, "falls as work grows", bad & ~by_much, excess, "left out")
    found += _report(grid, f"falls by over {FALL:.0%}", by_much, excess, "left out")
    return _without(grid, bad), found


def least_from_here(seconds: FloatArray) -> FloatArray:
    """The least time at this batch and size or any larger ones (inf where none is held)."""
    filled = np.where(np.isfinite(seconds), seconds, np.inf)
    for axis in (2, 1):
        filled = np.flip(np.minimum.accumulate(np.flip(filled, axis), axis=axis), axis)
    return filled


def findings_text(findings: Sequence[Finding]) -> list[str]:
    """One line per finding."""
    return [
        f"{f.kernel} {f.subject}: {f.rule}: {f.points:,} of {f.of_points:,} points, at worst {f.worst:g}×; {f.action}"
        for f in findings
    ]
