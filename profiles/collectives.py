"""Collectives between the GPUs of one replica: tables measured over NVLink where there are any, else a ring."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from profiles.efficiency import AllReduceTable, DeviceCurves
from profiles.evidence import Evidence
from profiles.kernel_curves import Curve
from profiles.kernel_table import KernelTables
from profiles.roofline import FloatArray, Number

PCIE_FRACTION = 0.6
"""Of the sheet's PCIe rate: 19 of 32 GB/s all-reduce bus bandwidth between 2 L40S (aiconfigurator-core 0.12.0)."""
PCIE_HOP_S = 3e-6
"""Per step of a ring over PCIe: 5.3 us measured for two L40S, whose ring has 2 steps."""
NETWORK_FRACTION = 0.8
NETWORK_HOP_S = 1e-5
"""Per step of a ring between nodes (RDMA): the point-to-point latency of aiconfigurator-core 0.12.0's system files."""
LINK_FRACTION = 0.7
"""Of the sheet's NVLink rate in one direction: 315 of 450 GB/s for two H100 (aiconfigurator-core 0.12.0)."""


@dataclass(frozen=True, kw_only=True)
class Interconnect:
    """The links between the GPUs of one replica, `None` where the catalogue's figure of the GPU holds."""

    curves: DeviceCurves
    gpus_per_node: int
    intra_node_bytes_per_s: float | None
    inter_node_bytes_per_s: float | None
    tables: KernelTables | None = None

    def evidence(self, operation: str, gpus: int, message_bytes: float) -> Evidence:
        """How a collective is known: from a table of this GPU over links of the sheet's rate, or modelled."""
        curve = self._measured(operation, gpus)
        sheet = self.intra_node_bytes_per_s in (None, self.curves.gpu.nvlink_bytes_per_s)
        return curve.evidence(message_bytes) if curve is not None and sheet else Evidence.MODELLED

    @property
    def linked_gpus(self) -> int:
        """How many GPUs of a node the fast link joins (1: none)."""
        gpu = self.curves.gpu
        return min(self.gpus_per_node, gpu.nvlink_domain_gpus) if gpu.nvlink_bytes_per_s > 0 else 1

    @property
    def node_bytes_per_s(self) -> float:
        """Rate a GPU sends at inside its node."""
        gpu = self.curves.gpu
        if gpu.nvlink_bytes_per_s > 0:
            return LINK_FRACTION * (self.intra_node_bytes_per_s or gpu.nvlink_bytes_per_s)
        return PCIE_FRACTION * (self.intra_node_bytes_per_s or gpu.pcie_bytes_per_s)

    @property
    def network_bytes_per_s(self) -> float:
        """Rate a GPU sends at to another node; without a figure, over its PCIe."""
        return NETWORK_FRACTION * (self.inter_node_bytes_per_s or self.curves.gpu.pcie_bytes_per_s)

    def all_reduce_s(self, gpus: int, message_bytes: Number) -> FloatArray:
        """Seconds of an all-reduce of so many bytes over that many GPUs; first inside each node, then between nodes."""
        size = np.asarray(message_bytes, dtype=np.float64)
        inside = min(gpus, self.gpus_per_node)
        time_s = self._inside_s(inside, size)
        nodes = -(-gpus // self.gpus_per_node)
        if nodes > 1:
            time_s = time_s + ring_s(nodes, size / inside, self.network_bytes_per_s, NETWORK_HOP_S)
        return time_s

    def all_gather_s(self, gpus: int, message_bytes: Number) -> FloatArray:
        """Seconds until every GPU has all of so many bytes; without a table, half of an all-reduce."""
        curve = self._measured("all_gather", gpus)
        if curve is None:
            return 0.5 * self.all_reduce_s(gpus, message_bytes)
        return self._slowed(curve.read(message_bytes), float(curve.read(0.0)))

    def all_to_all_s(self, gpus: int, bytes_each: Number) -> FloatArray:
        """Seconds until each of that many GPUs sent `bytes_each`, spread evenly over the others."""
        if gpus == 1:
            return np.zeros(np.shape(bytes_each))
        curve = self._measured("all_to_all", gpus)
        if curve is not None:
            return self._slowed(curve.read(np.asarray(bytes_each) * gpus / (gpus - 1)), float(curve.read(0.0)))
        outside = max(gpus - self.gpus_per_node, 0) / gpus
        inside = (gpus - 1) / gpus - outside
        size = np.asarray(bytes_each, dtype=np.float64)
        floor_s = NETWORK_HOP_S if outside else float(self._inside_s(min(gpus, self.gpus_per_node), np.array(0.0)))
        return np.asarray(
            floor_s + np.maximum(size * inside / self.node_bytes_per_s, size * outside / self.network_bytes_per_s)
        )

    def send_bytes_per_s(self, gpus: int) -> float:
        """Rate between neighbouring pipeline stages of a replica of that many GPUs: the slowest link on the way."""
        return self.node_bytes_per_s if gpus <= self.gpus_per_node else self.network_bytes_per_s

    def _inside_s(self, gpus: int, size: FloatArray) -> FloatArray:
        if gpus == 1:
            return np.zeros(np.shape(size))
        curve = self._measured("all_reduce", gpus)
        if curve is not None:
            return self._slowed(curve.read(size), float(curve.read(0.0)))
        table = self._table
        if table is None or gpus > self.linked_gpus:
            return ring_s(gpus, size, self.node_bytes_per_s, PCIE_HOP_S)
        times = cleaned(table)
        sizes = np.asarray(table.message_bytes)
        known = min((g for g in times if g >= gpus), default=max(times))
        return self._slowed(_read(sizes, times[known], size), float(times[known][0]))

    def _slowed(self, time_s: FloatArray, floor_s: float) -> FloatArray:
        """A time over the calibrated GPU's links as it is over these: what is above the floor takes longer."""
        rate = self.intra_node_bytes_per_s or self.curves.gpu.nvlink_bytes_per_s
        slowdown = self.curves.calibrated.nvlink_bytes_per_s / rate
        return np.asarray(floor_s + (time_s - floor_s) * slowdown)

    def _measured(self, operation: str, gpus: int) -> Curve | None:
        """The curve of a collective that was measured on this GPU over its own links, all in one node.

        Where the calibration wants the envelope of all-reduces, so it is here: that law is not what was measured.
        """
        if self.tables is None or not 1 < gpus <= self.linked_gpus:
            return None
        curve = self.tables.collective(operation, gpus)
        cleaning = self._table.cleaning if self._table is not None else "running"
        if curve is None or operation != "all_reduce" or cleaning == "running":
            return curve
        return replace(curve, seconds=lower_envelope(curve.at, curve.seconds), shape=Evidence.SCALED)

    @cached_property
    def _table(self) -> AllReduceTable | None:
        linked = self.curves.gpu.nvlink_bytes_per_s > 0
        return self.curves.efficiency.all_reduce if linked else None


def ring_s(gpus: int, message_bytes: Number, bytes_per_s: float, hop_s: float) -> FloatArray:
    """Seconds of a ring all-reduce: 2 (n - 1) steps of a latency and an n-th of the message each.

    Thakur, Rabenseifner, Gropp, IJHPCA 19(1), 2005, section 4.
    """
    steps = 2 * (gpus - 1)
    return np.asarray(steps * (hop_s + np.asarray(message_bytes) / gpus / bytes_per_s))


def cleaned(table: AllReduceTable) -> dict[int, FloatArray]:
    """Latency per GPU count with no time that falls as messages grow, mended as the table says."""
    mend = running_least if table.cleaning == "running" else lower_envelope
    return {g: mend(np.asarray(table.message_bytes), np.asarray(t)) for g, t in table.latency_s.items()}


def running_least(sizes: FloatArray, times: FloatArray) -> FloatArray:
    """Each time replaced by the least at that size or above (a small message can be padded)."""
    assert sizes.shape == times.shape
    return np.asarray(np.minimum.accumulate(times[::-1])[::-1])


def lower_envelope(sizes: FloatArray, times: FloatArray) -> FloatArray:
    """The largest convex curve below the points (Andrew's monotone chain), after `running_least`."""
    times = running_least(sizes, times)
    hull: list[int] = []
    for i in range(len(sizes)):
        while len(hull) > 1 and _turns_down(sizes, times, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    return np.asarray(np.interp(sizes, sizes[hull], times[hull]))


def _turns_down(sizes: FloatArray, times: FloatArray, a: int, b: int, c: int) -> bool:
    before = (times[b] - times[a]) * (sizes[c] - sizes[b])
    return bool(before >= (times[c] - times[b]) * (sizes[b] - sizes[a]))


def _read(sizes: FloatArray, times: FloatArray, at: FloatArray) -> FloatArray:
    """Linear between the points; below the first the first, beyond the last its slope goes on."""
    slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
    return np.asarray(np.interp(at, sizes, times) + np.maximum(at - sizes[-1], 0.0) * slope)
