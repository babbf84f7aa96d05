"""Collectives between the GPUs of a replica."""

import numpy as np
import pytest

from profiles.collectives import Interconnect, cleaned, lower_envelope, ring_s, running_least
from profiles.efficiency import AllReduceTable, curves_of
from profiles.evidence import Evidence
from profiles.gpus import load_gpu
from profiles.kernel_table import tables_of

SIZES = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
BUMPY = np.array([5.0, 6.0, 30.0, 10.0, 20.0])


def links(
    gpu: str, per_node: int = 8, intra_bytes_per_s: float | None = None, inter_bytes_per_s: float | None = None
) -> Interconnect:
    """The links between GPUs of that name."""
    return Interconnect(
        curves=curves_of(load_gpu(gpu)),
        tables=tables_of(load_gpu(gpu)),
        gpus_per_node=per_node,
        intra_node_bytes_per_s=intra_bytes_per_s,
        inter_node_bytes_per_s=inter_bytes_per_s,
    )


def test_running_least_takes_the_least_at_that_size_or_above() -> None:
    assert running_least(SIZES, BUMPY).tolist() == [5.0, 6.0, 10.0, 10.0, 20.0]


def test_lower_envelope_is_convex_and_never_above() -> None:
    envelope = lower_envelope(SIZES, BUMPY)
    slopes = np.diff(envelope) / np.diff(SIZES)
    assert (np.diff(slopes) >= -1e-12).all()
    assert (envelope <= BUMPY).all()
    assert envelope[0] == 5.0 and envelope[-1] == 20.0


def test_cleaning_is_the_table_s() -> None:
    values = tuple(SIZES), {2: tuple(BUMPY)}
    running = AllReduceTable(cleaning="running", message_bytes=values[0], latency_s=values[1])
    envelope = AllReduceTable(cleaning="envelope", message_bytes=values[0], latency_s=values[1])
    assert cleaned(running)[2][2] > cleaned(envelope)[2][2]


def test_a_measured_point_comes_back() -> None:
    measured_us = 50.72
    assert float(links("h100-sxm-80gb").all_reduce_s(8, 4194304 * 2)) == pytest.approx(measured_us * 1e-6, rel=1e-3)


def test_beyond_the_table_the_last_rate_goes_on() -> None:
    h100 = links("h100-sxm-80gb")
    one, two = (float(h100.all_reduce_s(8, n * 2**31)) for n in (1, 2))
    assert 2 * (8 - 1) / 8 * 2**31 / (two - one) == pytest.approx(460e9, rel=0.1)


def test_one_gpu_needs_no_collective() -> None:
    h100 = links("h100-sxm-80gb")
    assert float(h100.all_reduce_s(1, 1e9)) == 0.0
    assert float(h100.all_to_all_s(1, 1e9)) == 0.0


def test_without_nvlink_it_is_a_ring_over_pcie() -> None:
    l40s = links("l40s-48gb")
    assert l40s.linked_gpus == 1
    bus_bytes_per_s = 2 * (2 - 1) / 2 * 2**30 / float(l40s.all_reduce_s(2, 2**30))
    assert bus_bytes_per_s == pytest.approx(19e9, rel=0.05)
    assert l40s.evidence("all_reduce", 2, 2**20) is Evidence.MODELLED


def test_a_slower_link_than_the_table_s_stretches_the_bytes_not_the_floor() -> None:
    full, half = links("h100-sxm-80gb"), links("h100-sxm-80gb", intra_bytes_per_s=225e9)
    assert float(half.all_reduce_s(8, 1.0)) == float(full.all_reduce_s(8, 1.0))
    assert float(half.all_reduce_s(8, 2**30)) == pytest.approx(2 * float(full.all_reduce_s(8, 2**30)), rel=0.01)
    assert full.evidence("all_reduce", 8, 2**20) is Evidence.MEASURED
    assert full.evidence("all_reduce", 8, 2**20 + 2**19) is Evidence.INTERPOLATED
    assert half.evidence("all_reduce", 8, 2**20) is Evidence.MODELLED


def test_across_nodes_the_network_comes_on_top() -> None:
    h100 = links("h100-sxm-80gb", inter_bytes_per_s=50e9)
    inside, across = float(h100.all_reduce_s(8, 1e8)), float(h100.all_reduce_s(16, 1e8))
    assert across == pytest.approx(inside + float(ring_s(2, 1e8 / 8, 0.8 * 50e9, 1e-5)))
    assert h100.send_bytes_per_s(16) < h100.send_bytes_per_s(8)


def test_all_to_all_across_nodes_is_bound_by_the_slower_part() -> None:
    h100 = links("h100-sxm-80gb", inter_bytes_per_s=50e9)
    assert float(h100.all_to_all_s(16, 1e8)) == pytest.approx(1e-5 + 0.5 * 1e8 / (0.8 * 50e9))
    assert float(h100.all_to_all_s(16, 1e8)) > 3 * float(h100.all_to_all_s(8, 1e8))


@pytest.mark.parametrize("gpu", ["h100-sxm-80gb", "b200-sxm-180gb", "v100-sxm-16gb", "l40s-48gb", "mi300x-192gb"])
@pytest.mark.parametrize("gpus", [2, 3, 8, 16])
def test_collectives_never_fall_as_messages_grow(gpu: str, gpus: int) -> None:
    sizes = np.geomspace(1.0, 1e10, 300)
    assert (np.diff(links(gpu).all_reduce_s(gpus, sizes)) >= 0).all()
    assert (np.diff(links(gpu).all_to_all_s(gpus, sizes)) >= 0).all()


def test_a_ring_takes_two_passes() -> None:
    assert float(ring_s(4, 400.0, 100.0, 0.5)) == pytest.approx(6 * (0.5 + 1.0))
