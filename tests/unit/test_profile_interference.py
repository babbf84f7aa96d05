"""Who sits where in a pair, without a device."""

from pathlib import Path

import pytest

from planner.interference_loads import demand_of, load_shapes
from planner.profile_interference import Settings, seats_of
from planner.runtime.errors import EngineError
from planner.runtime.torch_worker import Device
from profiles.gpus import load_gpu
from profiles.interference import Sharing, load_name
from profiles.kernel_kinds import KINDS

H200 = load_gpu("h200-sxm-141gb")


def settings(device: Device, *sharing: Sharing, cores: tuple[int, ...] = (0,)) -> Settings:
    """Shares of a half and a quarter."""
    return Settings(
        python=Path("python"),
        device=device,
        sharing=sharing,
        cores=cores,
        shares=(0.5, 0.25),
        window_s=1.0,
        passes=1,
        gpu=None,
    )


def test_shares_of_a_pair_add_up_to_the_device() -> None:
    seats = seats_of(settings("cuda", "mps", "streams"))
    shares = [tuple(seat.share_fraction for seat in pair) for pair in seats]
    assert shares == [(0.5, 0.5), (0.25, 0.75), (1.0, 1.0)]


def test_cores_are_shared_and_apart() -> None:
    assert len(seats_of(settings("cpu", "cores"))) == 1
    same, apart = seats_of(settings("cpu", "cores", cores=(2, 3)))
    assert same[0].core == same[1].core == 2 and same[0].share_fraction == 1.0
    assert [seat.core for seat in apart] == [2, 3] and apart[0].share_fraction == 0.5


@pytest.mark.parametrize(("device", "sharing"), [("cpu", "mps"), ("cuda", "cores")])
def test_a_sharing_that_the_device_has_not_is_refused(device: Device, sharing: Sharing) -> None:
    with pytest.raises(EngineError, match=f"kernels on {device} cannot share it by {sharing}"):
        seats_of(settings(device, sharing))


def test_a_load_is_named_with_its_seat() -> None:
    assert load_name("gemm m64", "mps", 0.25) == "gemm m64 (mps 25%)"


def test_loads_span_the_two_resources() -> None:
    shapes = load_shapes("cuda", "bf16")
    for name, (kernel, columns) in shapes.items():
        assert set(KINDS[kernel].columns) == set(columns), name
    alone = {"gemm m4096": 1e-3, "decode 256 x 4096": 1e-3}
    compute, memory = (demand_of(shapes[name], seconds, 1.0, H200) for name, seconds in alone.items())
    assert compute.compute_fraction > 3 * compute.bandwidth_fraction
    assert memory.bandwidth_fraction > 3 * memory.compute_fraction
