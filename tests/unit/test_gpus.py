"""The GPU catalogue."""

import datetime

import pytest

from profiles.efficiency import curves_of
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.gpus import Gpu, calibration_of, gpu_names, inline_gpu, load_gpu, mig_instance
from profiles.units import GIB

FIGURES = (
    "generation",
    "memory_bytes",
    "visible_memory_bytes",
    "memory_bandwidth_bytes_per_s",
    "peak_flops",
    "sm_count",
    "l2_bytes",
    "nvlink_bytes_per_s",
    "nvlink_domain_gpus",
    "pcie_bytes_per_s",
    "price_usd_per_gpu_hour",
)
NO_MIG = {"l4-24gb", "l40s-48gb", "a10g-24gb", "v100-sxm-16gb", "v100-sxm-32gb", "mi300x-192gb"}
INLINE = {
    "name": "mine",
    "memory_bytes": 32 * GIB,
    "memory_bandwidth_bytes_per_s": 1e12,
    "peak_flops": {"fp16": 1e14},
}


@pytest.mark.parametrize("name", gpu_names())
def test_every_figure_has_a_source_with_a_date(name: str) -> None:
    gpu = load_gpu(name)
    assert gpu.name == name
    covered = {field for source in gpu.sources for field in source.covers}
    wanted = set(FIGURES) | ({"mig"} if gpu.mig else set())
    assert wanted <= covered
    assert all(source.date >= datetime.date(2025, 1, 1) for source in gpu.sources)


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_has_a_calibration(name: str) -> None:
    assert calibration_of(load_gpu(name))


@pytest.mark.parametrize("name", gpu_names())
def test_visible_memory_is_a_little_less_than_nominal(name: str) -> None:
    gpu = load_gpu(name)
    assert 0.9 <= gpu.visible_memory_bytes / gpu.memory_bytes < 1.0
    assert gpu.memory_bytes == int(name.rsplit("-", 1)[1].removesuffix("gb")) * GIB


def test_mig_is_where_the_hardware_has_it() -> None:
    assert {name for name in gpu_names() if load_gpu(name).mig is None} == NO_MIG


@pytest.mark.parametrize("name", sorted(set(gpu_names()) - NO_MIG))
def test_mig_profiles_fit_the_gpu(name: str) -> None:
    gpu = load_gpu(name)
    assert gpu.mig is not None and gpu.sm_count is not None
    whole = max(gpu.mig.profiles, key=lambda p: p.compute_slices)
    assert whole.compute_slices == gpu.mig.compute_slices
    for profile in gpu.mig.profiles:
        count = len(profile.placements)
        assert profile.memory_bytes * gpu.mig.memory_slices / profile.memory_slices <= 1.02 * gpu.memory_bytes
        assert profile.memory_bytes <= gpu.visible_memory_bytes
        assert profile.sm_count <= gpu.sm_count
        assert count * profile.compute_slices <= gpu.mig.compute_slices
        assert len(set(profile.placements)) == count


def test_a_mig_placement_beyond_the_last_slice_is_refused() -> None:
    mig = {
        "compute_slices": 7,
        "memory_slices": 8,
        "profiles": [
            {
                "name": "3g",
                "compute_slices": 3,
                "memory_slices": 4,
                "memory_bytes": GIB,
                "sm_count": 42,
                "placements": [0, 5],
            }
        ],
    }
    with pytest.raises(ProfileError, match="placement beyond memory slice 7"):
        inline_gpu({**INLINE, "mig": mig})


def test_a_mig_instance_is_a_smaller_gpu_of_its_own() -> None:
    whole = load_gpu("h100-sxm-80gb")
    half = mig_instance(whole, "3g.40gb")
    assert half.memory_bandwidth_bytes_per_s == whole.memory_bandwidth_bytes_per_s / 2
    assert half.flops("bf16") == pytest.approx(whole.flops("bf16") * 60 / 132)
    assert half.nvlink_bytes_per_s == 0.0 and half.mig is None
    assert curves_of(half).evidence is Evidence.MODELLED


def test_a_mig_profile_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProfileError, match=r"Maybe you meant '3g.40gb'"):
        mig_instance(load_gpu("h100-sxm-80gb"), "3g.41gb")
    with pytest.raises(ProfileError, match="cannot be partitioned"):
        mig_instance(load_gpu("l4-24gb"), "1g.5gb")


def test_v100_has_no_bf16_and_takes_fp16_instead() -> None:
    gpu = load_gpu("v100-sxm-16gb")
    assert "bf16" not in gpu.peak_flops
    assert gpu.half_precision == "fp16"
    assert gpu.flops("bf16") == gpu.peak_flops["fp16"]


def test_an_inline_gpu_says_what_it_assumed() -> None:
    gpu, assumed = inline_gpu(INLINE)
    assert gpu.visible_memory_bytes < gpu.memory_bytes
    text = " ".join(assumed)
    for field in ("visible_memory_bytes", "sister", "nvlink_bytes_per_s", "pcie_bytes_per_s"):
        assert field in text


def test_an_inline_gpu_with_everything_assumes_nothing() -> None:
    _, assumed = inline_gpu(load_gpu("h100-sxm-80gb").model_dump())
    assert assumed == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_bytes": -1}, "memory_bytes"),
        ({"peak_flops": {}}, "peak_flops"),
        ({"peak_flops": {"fp8": 1e15}}, "at least one of bf16"),
        ({"peak_flops": {"bf16": 1e15, "bf61": 1e15}}, "Maybe you meant 'bf16'"),
        ({"visible_memory_bytes": 33 * GIB}, "larger than memory_bytes"),
        ({"memory_bandwith_bytes_per_s": 1e12}, "Maybe you meant 'memory_bandwidth_bytes_per_s'"),
    ],
)
def test_a_bad_inline_gpu_is_refused_by_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        inline_gpu({**INLINE, **change})


def test_an_unknown_sister_is_named() -> None:
    gpu, _ = inline_gpu({**INLINE, "sister": "h100"})
    with pytest.raises(ProfileError, match="'h100' is not in the catalogue"):
        calibration_of(gpu)


def test_a_gpu_that_is_its_own_sister_has_no_calibration() -> None:
    gpu = Gpu(**{**INLINE, "visible_memory_bytes": GIB, "sister": "mine"})  # type: ignore[arg-type]
    with pytest.raises(ProfileError, match="has no calibration"):
        calibration_of(gpu)
