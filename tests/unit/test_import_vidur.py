"""Vidur's profiles: its projections as products, its all-reduces inside a node."""

from pathlib import Path

import pytest

from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from profiles.import_vidur import PROJECTIONS, SHAPE, read_vidur
from tests.kernel_cases import H100

MLP = ",".join((*SHAPE, *(f"time_stats.{p}.median" for p in PROJECTIONS)))
LLAMA_2_70B_TP_4 = "64,8,8192,28672,True,256,4,0.05,0.04,0.30,"
REDUCE = ",time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node"


def repository(path: Path, *lines: str, reduce: str = "0,0.037,0,8,2048,all_reduce,8") -> Path:
    """A repository with one model's profile and one all-reduce, and one that crosses nodes."""
    compute = path / "data" / "profiling" / "compute" / "h100" / "meta-llama" / "Llama-2-70b-hf"
    network = path / "data" / "profiling" / "network" / "h100_dgx"
    compute.mkdir(parents=True)
    network.mkdir(parents=True)
    (compute / "mlp.csv").write_text("\n".join((MLP, *lines, "")))
    (network / "all_reduce.csv").write_text("\n".join((REDUCE, reduce, "1,0.5,0,16,2048,all_reduce,8", "")))
    return path


def test_projections_become_products_of_one_rank(tmp_path: Path) -> None:
    gemm, collective = read_vidur(H100, repository(tmp_path, LLAMA_2_70B_TP_4)).samples
    shapes = list(zip(*(gemm.columns[c].tolist() for c in ("m", "n", "k")), gemm.seconds.tolist(), strict=True))
    assert shapes == [
        (256, (16 + 2 * 2) * 128, 8192, pytest.approx(50e-6)),
        (256, 8192, 2048, pytest.approx(40e-6)),
        (256, 2 * 28672 // 4, 8192, pytest.approx(300e-6)),
    ]
    assert collective.columns["gpus"].tolist() == [8], "what crosses nodes is left to the network's law"
    assert collective.seconds.tolist() == [pytest.approx(37e-6)]


def test_a_zero_is_refused_with_file_and_line(tmp_path: Path) -> None:
    zero = LLAMA_2_70B_TP_4.replace("0.04", "0.0")
    with pytest.raises(ProfileError, match=r"mlp.csv, line 3, column time_stats.attn_post_proj.median: must be"):
        read_vidur(H100, repository(tmp_path, LLAMA_2_70B_TP_4, zero))


def test_a_profile_without_times_is_refused(tmp_path: Path) -> None:
    repository(tmp_path, LLAMA_2_70B_TP_4)
    (path,) = tmp_path.rglob("mlp.csv")
    path.write_text(",".join(SHAPE) + "\n32,32,4096,11008,True,4096,1\n")
    with pytest.raises(ProfileError, match=r"line 1: column time_stats.attn_pre_proj.median is missing"):
        read_vidur(H100, tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="holds no compute/h100"):
        read_vidur(H100, tmp_path)
    with pytest.raises(ProfileError, match="Vidur has no profiles of 'l40s-48gb'"):
        read_vidur(load_gpu("l40s-48gb"), tmp_path)
