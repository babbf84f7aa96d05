"""Calibrations and what they give on a GPU."""

import pytest

from profiles.efficiency import curves_of, load_efficiency
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.gpus import inline_gpu, load_gpu


@pytest.mark.parametrize(
    ("gpu", "evidence"),
    [
        ("h100-sxm-80gb", Evidence.SCALED),
        ("l40s-48gb", Evidence.SCALED),
        ("a100-sxm-40gb", Evidence.MODELLED),
        ("l4-24gb", Evidence.MODELLED),
        ("v100-sxm-16gb", Evidence.MODELLED),
        ("mi300x-192gb", Evidence.MODELLED),
    ],
)
def test_evidence_says_whose_calibration_it_is(gpu: str, evidence: Evidence) -> None:
    assert curves_of(load_gpu(gpu)).evidence is evidence


def test_a_user_s_gpu_with_a_catalogue_calibration_is_modelled() -> None:
    values = {**load_gpu("h100-sxm-80gb").model_dump(), "name": "mine"}
    assert curves_of(inline_gpu(values)[0]).evidence is Evidence.MODELLED


def test_a_sister_s_fractions_meet_the_gpu_s_own_peaks() -> None:
    own, sister = curves_of(load_gpu("a100-sxm-40gb")), curves_of(load_gpu("a100-sxm-80gb"))
    ratio = 1.555 / 2.039
    assert own.gemm("bf16", "bf16").bytes_per_s == pytest.approx(ratio * sister.gemm("bf16", "bf16").bytes_per_s)
    assert own.gemm("bf16", "bf16").flops_per_s == sister.gemm("bf16", "bf16").flops_per_s
    assert own.decode("bf16").bytes_per_s == pytest.approx(ratio * sister.decode("bf16").bytes_per_s)


def test_a_calibration_without_a_type_takes_the_next_wider_one() -> None:
    a100 = curves_of(load_gpu("a100-sxm-80gb"))
    assert a100.gemm("bf16", "fp8") == a100.gemm("bf16", "bf16")
    pro = curves_of(load_gpu("rtx-pro-6000-96gb"))
    assert pro.gemm("fp4", "fp4").flops_per_s == pytest.approx(2 * pro.gemm("fp8", "fp8").flops_per_s)


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "a100-sxm", "l40s", "b200-sxm"])
def test_a_calibration_names_its_public_source_and_licence(name: str) -> None:
    text = " ".join(source.source for source in load_efficiency(name).sources)
    assert "aiconfigurator-core 0.12.0" in text and "Apache-2.0" in text


def test_an_unknown_calibration_is_refused() -> None:
    with pytest.raises(ProfileError, match="not in the catalogue of efficiency"):
        load_efficiency("h100")
