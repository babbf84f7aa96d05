"""Loading the kernel tables of one GPU."""

import time

import pytest

from profiles.gpus import load_gpu
from profiles.kernel_store import load_grids, read_index, tables_folder

LIMIT_S = 0.3


@pytest.mark.parametrize("gpu", ["h100-sxm-80gb", "b200-sxm-180gb"])
def test_the_tables_of_one_gpu_load_fast(gpu: str) -> None:
    folder = tables_folder(load_gpu(gpu))
    assert folder is not None
    times = []
    for _ in range(3):
        start = time.perf_counter()
        load_grids(folder, read_index(folder))
        times.append(time.perf_counter() - start)
    assert min(times) <= LIMIT_S, f"{min(times):.3f} s"
