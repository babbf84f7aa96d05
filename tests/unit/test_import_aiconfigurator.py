"""The wheel's tables: names, units, one device, and what is refused. The parquet files are made here."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from profiles.import_aiconfigurator import DATA, read_system
from profiles.kernel_grid import Samples
from tests.kernel_cases import H100

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Table = dict[str, list[Any]]
DEVICE = "NVIDIA H100 80GB HBM3"


def attention(step: int) -> Table:
    """Two points of attention, one of them of a batch."""
    return {
        "batch_size": [1, 4],
        "isl": [1024, 1024] if step == 0 else [1, 1],
        "step": [step, step],
        "num_heads": [8, 8],
        "num_key_value_heads": [1, 1],
        "head_dim": [128, 128],
        "attn_dtype": ["bfloat16"] * 2,
        "kv_cache_dtype": ["bfloat16", "fp8"],
        "latency": [0.02, 0.05],
    }


def tables() -> dict[str, Table]:
    """Every table of H100, by path inside its folder."""
    mla: Table = {"num_heads": [16], "mla_dtype": ["bfloat16"], "kv_cache_dtype": ["bfloat16"], "batch_size": [1]}
    return {
        "gemm/vllm/0.24.0/gemm": {
            "gemm_dtype": ["bfloat16", "bfloat16", "fp8", "mystery"],
            "m": [64] * 4,
            "n": [7168] * 4,
            "k": [8192] * 4,
            "latency": [0.05, 0.0434, 0.03, 0.01],
        },
        "attention/vllm/0.24.0/context_attention": attention(0),
        "attention/vllm/0.24.0/generation_attention": {**attention(1023), "window_size": [0, 128]},
        "mla/sglang/0.5.14/context_mla": {**mla, "isl": [512], "step": [0], "latency": [0.03]},
        "mla/sglang/0.5.14/generation_mla": {**mla, "isl": [1], "step": [511], "latency": [0.02]},
        "moe/vllm/0.24.0/moe": {
            "moe_dtype": ["bfloat16"] * 2,
            "distribution": ["balanced", "power_law_1.2"],
            "num_tokens": [64] * 2,
            "hidden_size": [2048] * 2,
            "inter_size": [768] * 2,
            "topk": [8] * 2,
            "num_experts": [128] * 2,
            "moe_tp_size": [1] * 2,
            "moe_ep_size": [1] * 2,
            "latency": [0.3, 0.404],
        },
        "comm/vllm/0.24.0/custom_allreduce": {
            "allreduce_dtype": ["bfloat16"] * 2,
            "num_gpus": [8] * 2,
            "message_size": [4096] * 2,
            "backend": ["vllm_graph", "vllm_eager"],
            "latency": [0.006, 0.02],
        },
        "comm/nccl/2.29.2/nccl": {
            "nccl_dtype": ["half", "half", "int8"],
            "op_name": ["alltoall", "all_reduce", "all_gather"],
            "num_gpus": [8] * 3,
            "message_size": [4096] * 3,
            "latency": [0.03, 0.02, 0.01],
        },
    }


def wheel(path: Path, found: Mapping[str, Table], damage: Callable[[bytes], bytes] = lambda b: b) -> Path:
    """A wheel of those tables; `damage` is done to the GEMM table."""
    file = path / "core.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, columns in found.items():
            payload = io.BytesIO()
            parquet.write_table(pyarrow.table({"device": [DEVICE] * len(columns["latency"]), **columns}), payload)
            packed = damage(payload.getvalue()) if name.startswith("gemm") else payload.getvalue()
            archive.writestr(f"{DATA}/h100_sxm/{name}_perf.parquet", packed)
    return file


def by_kind(samples: Sequence[Samples]) -> dict[str, Samples]:
    """The samples by their kind."""
    return {s.kind.name: s for s in samples}


def test_every_table_is_read_with_its_units(tmp_path: Path) -> None:
    reading = read_system(H100, wheel(tmp_path, tables()))
    found = by_kind(reading.samples)
    assert reading.device == DEVICE
    assert found["gemm"].seconds.tolist() == pytest.approx([50e-6, 43.4e-6, 30e-6])
    assert found["gemm"].columns["operand"].tolist() == ["bf16", "bf16", "fp8"]
    assert found["decode_attention"].columns["context"].tolist() == [1024, 1024]
    assert found["decode_attention"].columns["window"].tolist() == [0, 128]
    assert found["decode_attention"].columns["operand"].tolist() == ["bf16", "fp8"]
    assert found["mla_decode"].columns["context"].tolist() == [512]


def test_what_is_selected(tmp_path: Path) -> None:
    found = by_kind(read_system(H100, wheel(tmp_path, tables())).samples)
    assert found["prefill_attention"].columns["tokens"].tolist() == [1024], "one prompt"
    assert found["prefill_attention"].columns["window"].tolist() == [0], "the older tables have no windows"
    assert found["moe"].seconds.tolist() == pytest.approx([404e-6]), "skewed routing"
    assert found["collective"].columns["operation"].tolist() == ["all_reduce", "all_to_all"]
    assert found["collective"].seconds.tolist() == pytest.approx([6e-6, 30e-6]), "all-reduce inside CUDA graphs"
    assert found["collective"].columns["bytes"].tolist() == [8192, 8192], "message sizes are elements"


def test_a_folder_reads_like_the_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel(tmp_path, tables())) as archive:
        archive.extractall(tmp_path / "unpacked")
    found = by_kind(read_system(H100, tmp_path / "unpacked").samples)
    assert found["gemm"].seconds.size == 3


def test_a_row_of_another_device_is_refused(tmp_path: Path) -> None:
    mixed = tables()
    mixed["gemm/vllm/0.24.0/gemm"]["device"] = [DEVICE, DEVICE, "NVIDIA H20", DEVICE]
    with pytest.raises(ProfileError, match=r"gemm_perf.parquet, row 3: measured on 'NVIDIA H20', not on 'NVIDIA H100"):
        read_system(H100, wheel(tmp_path, mixed))


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b"", lambda b: b"PAR1" + b[4:100]])
def test_a_cut_table_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ProfileError, match=r"gemm_perf.parquet is truncated or no parquet file"):
        read_system(H100, wheel(tmp_path, tables(), damage))


def test_a_missing_column_or_table_is_refused(tmp_path: Path) -> None:
    short = tables()
    del short["moe/vllm/0.24.0/moe"]["topk"]
    with pytest.raises(ProfileError, match=r"moe_perf.parquet has no column topk"):
        read_system(H100, wheel(tmp_path, short))
    del short["moe/vllm/0.24.0/moe"]
    with pytest.raises(ProfileError, match=r"moe_perf.parquet is missing or damaged"):
        read_system(H100, wheel(tmp_path, short))


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(ProfileError, match="is no readable wheel or folder"):
        read_system(H100, tmp_path / "x.whl")
    with pytest.raises(ProfileError, match="give the wheel, or the folder"):
        read_system(H100, tmp_path)
    with pytest.raises(ProfileError, match="'l4-24gb' is not among the systems"):
        read_system(load_gpu("l4-24gb"), tmp_path / "x.whl")
