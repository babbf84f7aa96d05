import numpy as np
import pytest

from profiles.efficiency import curves_of
from profiles.gpus import load_gpu
from profiles.kernel_points import kernel_points


@pytest.mark.parametrize("gpu", ["h100-sxm-80gb", "a100-sxm-80gb", "l40s-48gb", "h200-sxm-141gb", "b200-sxm-180gb"])
def test_curves_are_as_good_on_their_points_as_their_file_says(gpu: str) -> None:
    curves = curves_of(load_gpu(gpu))
    fits = {("gemm", str(k)): v for k, v in curves.efficiency.gemm.items()}
    for one in kernel_points(curves):
        assert one.measured_s.shape == one.predicted_s.shape == one.flops.shape == one.bytes_moved.shape
        fit = fits.get((one.kernel, one.operand))
        if fit is not None and fit.points == one.measured_s.size:
            error = np.median(np.abs(one.predicted_s / one.measured_s - 1))
            assert abs(error - fit.median_error_fraction) < 0.005
