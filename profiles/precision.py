"""Number formats of weights and KV cache: bytes a matrix takes, and which GPU can run which."""

from collections.abc import Mapping
from enum import StrEnum

FP8_BLOCK = 128
GROUP = 128
MXFP4_GROUP = 32
NVFP4_GROUP = 16
SCALE_FP32_BYTES = 4


class Quantization(StrEnum):
    """How the weights of the linear layers are stored (embeddings, output head, norms and routers stay at 16 bit)."""

    FP32 = "fp32"
    """Four bytes, for everything."""
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    """One byte a weight, one fp32 scale an output channel."""
    FP8_BLOCK = "fp8_block"
    """One byte a weight, one fp32 scale a block of 128 x 128 (DeepSeek-V3, arXiv 2412.19437, section 3.3.2)."""
    INT8 = "int8"
    """One byte a weight, one fp32 scale an output channel."""
    INT4 = "int4"
    """Four bits a weight, a 16-bit scale and a 4-bit zero point a group of 128 inputs; so are the next two."""
    AWQ = "awq"
    GPTQ = "gptq"
    MXFP4 = "mxfp4"
    """Four bits a weight, one 8-bit exponent a group of 32 (OCP Microscaling Formats 1.0); routed experts only."""
    NVFP4 = "nvfp4"
    """Four bits a weight, one 8-bit scale a group of 16 and one fp32 scale a matrix."""


class KvDtype(StrEnum):
    """How keys and values are stored."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"

    @property
    def bytes(self) -> int:
        """Bytes of one element."""
        return {KvDtype.FP32: 4, KvDtype.BF16: 2, KvDtype.FP16: 2, KvDtype.FP8: 1}[self]


class Execution(StrEnum):
    """How a GPU runs a format: in its own units, or unpacked to 16 bit inside the kernel (Marlin and the like)."""

    NATIVE = "native"
    WEIGHT_ONLY = "weight_only"


PLAIN = frozenset({Quantization.FP32, Quantization.BF16, Quantization.FP16})
"""Formats that are no quantisation: a dtype of their own."""
FLOATS = frozenset({Quantization.FP8, Quantization.FP8_BLOCK, Quantization.MXFP4, Quantization.NVFP4})
"""Formats of weights as floating-point numbers of 8 bits or fewer."""
EXPERTS_ONLY = frozenset({Quantization.MXFP4})
GROUPED = frozenset({Quantization.INT4, Quantization.AWQ, Quantization.GPTQ})
NATIVE_UNIT: Mapping[Quantization, str] = {
    Quantization.BF16: "bf16",
    Quantization.FP16: "fp16",
    Quantization.FP8: "fp8",
    Quantization.FP8_BLOCK: "fp8",
    Quantization.INT8: "int8",
    Quantization.NVFP4: "fp4",
}
WEIGHT_ONLY_NEEDS: Mapping[Quantization, str] = {
    Quantization.FP8: "bf16",
    Quantization.FP8_BLOCK: "bf16",
    Quantization.INT4: "bf16",
    Quantization.AWQ: "bf16",
    Quantization.GPTQ: "fp16",
    Quantization.MXFP4: "bf16",
    Quantization.NVFP4: "bf16",
}


def element_bytes(quantization: Quantization) -> int:
    """Bytes of an element that is not quantised (embeddings, norms, activations): 4 for fp32, else 2."""
    return 4 if quantization is Quantization.FP32 else 2


def native_kv_dtype(quantization: Quantization) -> KvDtype:
    """The KV format an engine takes unasked: that of the activations."""
    return {Quantization.FP32: KvDtype.FP32, Quantization.FP16: KvDtype.FP16}.get(quantization, KvDtype.BF16)


def matrix_bytes(quantization: Quantization, rows: int, columns: int) -> int:
    """Bytes of one quantised matrix of `rows` outputs and `columns` inputs, its scales included."""
    count = rows * columns
    match quantization:
        case Quantization.FP32 | Quantization.BF16 | Quantization.FP16:
            return count * element_bytes(quantization)
        case Quantization.FP8 | Quantization.INT8:
            return count + SCALE_FP32_BYTES * rows
        case Quantization.FP8_BLOCK:
            return count + SCALE_FP32_BYTES * _groups(rows, FP8_BLOCK) * _groups(columns, FP8_BLOCK)
        case Quantization.INT4 | Quantization.AWQ | Quantization.GPTQ:
            return (count * 4 + rows * _groups(columns, GROUP) * 20 + 7) // 8
        case Quantization.MXFP4:
            return rows * _groups(columns, MXFP4_GROUP) * (MXFP4_GROUP // 2 + 1)
        case Quantization.NVFP4:
            return rows * _groups(columns, NVFP4_GROUP) * (NVFP4_GROUP // 2 + 1) + SCALE_FP32_BYTES


def execution(quantization: Quantization, peak_flops: Mapping[str, float]) -> Execution | None:
    """How a GPU with these units runs the format; None when it cannot.

    fp32 runs everywhere. fp8 runs in fp8 units, else weight-only (W8A16) where there is bf16: vLLM's Marlin kernels
    need compute capability 8.0, which is where bf16 came (vLLM documentation, "FP8 W8A8"). The 4-bit formats
    likewise, GPTQ also at fp16 (ExLlama kernels).
    """
    if quantization is Quantization.FP32 or NATIVE_UNIT.get(quantization) in peak_flops:
        return Execution.NATIVE
    needed = WEIGHT_ONLY_NEEDS.get(quantization)
    return Execution.WEIGHT_ONLY if needed in peak_flops else None


def loads_as(stored: Quantization, asked: Quantization) -> bool:
    """Whether vLLM can run a checkpoint stored in one format in another: 16 or 32 bit as each other, and as fp8 made
    at the start (`--quantization fp8`); anything else needs a checkpoint that is stored so.
    """
    return asked is stored or (stored in PLAIN and (asked in PLAIN or asked is Quantization.FP8))


def kv_runs(kv_dtype: KvDtype, peak_flops: Mapping[str, float]) -> bool:
    """Whether a GPU with these units reads a KV cache of that format (fp8 needs fp8 units: Ada and later)."""
    return kv_dtype is KvDtype.FP32 or kv_dtype.value in peak_flops


def _groups(length: int, size: int) -> int:
    return -(-length // size)
