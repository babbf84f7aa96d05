"""Reads the kernel tables of the wheel aiconfigurator-core (NVIDIA, Apache-2.0): parquet, straight from the archive.

Its latencies are in ms; message sizes of collectives are in elements, not bytes.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiles.errors import ProfileError
from profiles.gpus import Gpu
from profiles.import_tables import Reading
from profiles.kernel_grid import Samples, joined, samples_of
from profiles.kernel_kinds import KINDS, Column, Columns
from profiles.units import MS_PER_S

DATA = "aiconfigurator_core/systems/data"
OPERAND_NAMES: Mapping[str, str] = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "nvfp4": "fp4",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
}
ELEMENT_BYTES: Mapping[str, int] = {"bfloat16": 2, "half": 2, "int8": 1}
ROUTING = "power_law_1.2"
"""Of the routings in the MoE tables, the skewed one that real routers are nearest to."""
OPERATIONS: Mapping[str, str] = {
    "alltoall": "all_to_all",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
}
"""What is taken from NCCL's tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What is read for one GPU: folder, the device's name in its rows, and the version of each family of tables."""

    folder: str
    device: str
    vllm: str = "0.24.0"
    all_reduce: str = "0.24.0"
    nccl: str = "2.29.2"
    mla: str = "sglang/0.5.14"


SYSTEMS: Mapping[str, System] = {
    "h100-sxm-80gb": System(folder="h100_sxm", device="NVIDIA H100 80GB HBM3"),
    "h200-sxm-141gb": System(folder="h200_sxm", device="NVIDIA H200"),
    "b200-sxm-180gb": System(folder="b200_sxm", device="NVIDIA B200"),
    "a100-sxm-80gb": System(
        folder="a100_sxm",
        device="NVIDIA A100-SXM4-80GB",
        vllm="0.14.0",
        all_reduce="0.14.0",
        nccl="2.27.3",
        mla="trtllm/1.0.0",
    ),
    "l40s-48gb": System(folder="l40s", device="NVIDIA L40S", all_reduce="0.22.0", nccl="2.27.3"),
}
"""MLA kernels come from SGLang (A100: TensorRT-LLM): vLLM's MLA tables time a whole module, start-up included."""

RawColumns = Mapping[str, NDArray[Any]]
Read = Callable[[str], bytes]


def read_system(gpu: Gpu, source: Path) -> Reading:
    """The measured points of one GPU from a wheel (or any zip of it) or a folder it was unpacked to, by kind.

    Raises ProfileError: no such system, a table is missing, cut or no parquet, lacks a column, or holds another device.
    """
    if gpu.name not in SYSTEMS:
        raise ProfileError(f"{gpu.name!r} is not among the systems that can be imported: {', '.join(SYSTEMS)}.")
    s = SYSTEMS[gpu.name]
    read = _reader(source)
    tables = (_gemm, _prefill, _decode, _moe, _mla_prefill, _mla_decode, _collectives)
    origin = (
        f"aiconfigurator-core 0.12.0 (PyPI wheel), {s.folder}: vLLM {s.vllm} for GEMM, attention and MoE, "
        f"vLLM {s.all_reduce} and NCCL {s.nccl} for collectives, {s.mla} for MLA attention"
    )
    return Reading(samples=[table(read, s) for table in tables], device=s.device, origin=origin)


def _reader(source: Path) -> Read:
    """A function from a path inside the package to its bytes."""
    if source.is_dir():
        root = next((p for p in (source, *source.glob("*/")) if (p / DATA).is_dir()), None)
        if root is None:
            raise ProfileError(f"{source} holds no {DATA}; give the wheel, or the folder that it was unpacked to.")
        return lambda name: _file_bytes(root / name)
    try:
        archive = zipfile.ZipFile(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise ProfileError(f"{source} is no readable wheel or folder ({error}).") from error
    return lambda name: _member_bytes(archive, name, source)


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}.") from error


def _member_bytes(archive: zipfile.ZipFile, name: str, source: Path) -> bytes:
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ProfileError(f"{source}: {name} is missing or damaged.") from error


def _table(
    read: Read, system: System, path: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> tuple[RawColumns, str]:
    """(the columns asked for with latency and row numbers, the table's path); all of one device."""
    try:
        import pyarrow.lib
        import pyarrow.parquet
    except ImportError as error:
        raise ProfileError("Reading parquet needs pyarrow: pip install 'muxplan[profile]'.") from error
    name = f"{DATA}/{system.folder}/{path}_perf.parquet"
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(read(name)))
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise ProfileError(f"{name} is truncated or no parquet file.") from error
    missing = next((c for c in (*columns, "latency", "device") if c not in table.column_names), None)
    if missing is not None:
        raise ProfileError(f"{name} has no column {missing}.")
    present = [c for c in optional if c in table.column_names]
    raw = {c: table.column(c).to_numpy(zero_copy_only=False) for c in (*columns, *present, "latency", "device")}
    raw["row"] = np.arange(1, table.num_rows + 1)
    _one_device(raw["device"], system.device, name)
    return raw, name


def _one_device(devices: NDArray[Any], expected: str, name: str) -> None:
    other = devices != expected
    if other.any():
        row = int(np.argmax(other))
        raise ProfileError(f"{name}, row {row + 1}: measured on {str(devices[row])[:60]!r}, not on {expected!r}.")


def _samples(
    kind: str, origin: str, raw: RawColumns, columns: Columns, keep: NDArray[np.bool_] | None = None
) -> Samples:
    chosen = slice(None) if keep is None else keep
    latency_ms = np.asarray(raw["latency"], dtype=np.float64)[chosen]
    mine = {name: values[chosen] for name, values in columns.items()}
    return samples_of(KINDS[kind], origin, mine, latency_ms / MS_PER_S, raw["row"][chosen])


def _named(values: NDArray[Any], names: Mapping[str, str]) -> NDArray[np.str_]:
    """Each value's name in `names`, empty where it has none."""
    distinct, inverse = np.unique(values.astype(np.str_), return_inverse=True)
    return np.array([names.get(v, "") for v in distinct.tolist()])[inverse]


def _floats(raw: RawColumns, names: Mapping[str, str]) -> dict[str, Column]:
    """Columns under our names (first) from those of the table (second)."""
    return {ours: raw[theirs].astype(np.float64) for ours, theirs in names.items()}


def _gemm(read: Read, system: System) -> Samples:
    raw, name = _table(read, system, f"gemm/vllm/{system.vllm}/gemm", ("gemm_dtype", "m", "n", "k"))
    operand = _named(raw["gemm_dtype"], OPERAND_NAMES)
    columns: dict[str, Column] = {"operand": operand, **_floats(raw, {"m": "m", "n": "n", "k": "k"})}
    return _samples("gemm", name, raw, columns, operand != "")


ATTENTION_COLUMNS = (
    "batch_size",
    "isl",
    "step",
    "num_heads",
    "num_key_value_heads",
    "head_dim",
    "attn_dtype",
    "kv_cache_dtype",
)


def _attention(read: Read, system: System, which: str) -> tuple[RawColumns, str, dict[str, Column]]:
    path = f"attention/vllm/{system.vllm}/{which}_attention"
    raw, name = _table(read, system, path, ATTENTION_COLUMNS, optional=("window_size",))
    columns = _floats(raw, {"heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"})
    windows = raw["window_size"] if "window_size" in raw else np.zeros(len(raw["row"]))
    columns["window"] = windows.astype(np.float64)
    columns["operand"] = _named(raw["kv_cache_dtype"], OPERAND_NAMES)
    return raw, name, columns


def _prefill(read: Read, system: System) -> Samples:
    """Attention over one prompt: a step's prompts are added up."""
    raw, name, columns = _attention(read, system, "context")
    columns["tokens"] = raw["isl"].astype(np.float64)
    return _samples("prefill_attention", name, raw, columns, (raw["batch_size"] == 1) & (columns["operand"] != ""))


def _decode(read: Read, system: System) -> Samples:
    raw, name, columns = _attention(read, system, "generation")
    columns["batch"] = raw["batch_size"].astype(np.float64)
    columns["context"] = (raw["isl"] + raw["step"]).astype(np.float64)
    return _samples("decode_attention", name, raw, columns, columns["operand"] != "")


def _mla(read: Read, system: System, which: str) -> tuple[RawColumns, str, dict[str, Column]]:
    names = ("batch_size", "isl", "step", "num_heads", "mla_dtype", "kv_cache_dtype")
    raw, name = _table(read, system, f"mla/{system.mla}/{which}_mla", names)
    return raw, name, {**_floats(raw, {"heads": "num_heads"}), "operand": _named(raw["kv_cache_dtype"], OPERAND_NAMES)}


def _mla_prefill(read: Read, system: System) -> Samples:
    raw, name, columns = _mla(read, system, "context")
    columns["tokens"] = raw["isl"].astype(np.float64)
    return _samples("mla_prefill", name, raw, columns, (raw["batch_size"] == 1) & (columns["operand"] != ""))


def _mla_decode(read: Read, system: System) -> Samples:
    raw, name, columns = _mla(read, system, "generation")
    columns["batch"] = raw["batch_size"].astype(np.float64)
    columns["context"] = (raw["isl"] + raw["step"]).astype(np.float64)
    return _samples("mla_decode", name, raw, columns, columns["operand"] != "")


MOE_NAMES: Mapping[str, str] = {
    "tokens": "num_tokens",
    "hidden": "hidden_size",
    "intermediate": "inter_size",
    "experts_per_token": "topk",
    "experts": "num_experts",
    "tp": "moe_tp_size",
    "ep": "moe_ep_size",
}


def _moe(read: Read, system: System) -> Samples:
    names = ("moe_dtype", "distribution", *MOE_NAMES.values())
    raw, name = _table(read, system, f"moe/vllm/{system.vllm}/moe", names)
    columns = {"operand": _named(raw["moe_dtype"], OPERAND_NAMES), **_floats(raw, MOE_NAMES)}
    return _samples("moe", name, raw, columns, (columns["operand"] != "") & (raw["distribution"] == ROUTING))


def _collectives(read: Read, system: System) -> Samples:
    """All-reduce as vLLM runs it inside CUDA graphs; the other collectives as NCCL runs them at 16 bit."""
    own, name = _table(
        read,
        system,
        f"comm/vllm/{system.all_reduce}/custom_allreduce",
        ("allreduce_dtype", "num_gpus", "message_size", "backend"),
    )
    nccl, other = _table(
        read, system, f"comm/nccl/{system.nccl}/nccl", ("nccl_dtype", "op_name", "num_gpus", "message_size")
    )
    of_vllm = np.full(len(own["row"]), "all_reduce")
    of_nccl = _named(nccl["op_name"], OPERATIONS)
    return joined(
        [
            _messages(name, own, own["allreduce_dtype"], of_vllm, own["backend"] == "vllm_graph"),
            _messages(other, nccl, nccl["nccl_dtype"], of_nccl, (nccl["nccl_dtype"] == "half") & (of_nccl != "")),
        ]
    )


def _messages(
    name: str, raw: RawColumns, dtype: NDArray[Any], operation: NDArray[np.str_], chosen: NDArray[np.bool_]
) -> Samples:
    element = np.array([ELEMENT_BYTES.get(str(d), 2) for d in dtype], dtype=np.float64)
    columns: dict[str, Column] = {"operation": operation, "gpus": raw["num_gpus"].astype(np.float64)}
    columns["bytes"] = element * raw["message_size"]
    return _samples("collective", name, raw, columns, chosen)
