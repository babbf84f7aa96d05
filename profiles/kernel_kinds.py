"""The kinds of kernels that are tabulated: which columns name a curve, along which sizes it runs, and its roofline.

A curve is one shape on one device: its time over one size (GEMM: rows m), or over batch and context (decode attention).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from profiles.errors import ProfileError
from profiles.gpus import ComputeType, Gpu
from profiles.roofline import FloatArray, causal_pairs

Column = NDArray[np.float64] | NDArray[np.str_]
Columns = Mapping[str, Column]
Key = tuple[str | int, ...]

REFERENCE_LAUNCH_S = 3e-6
"""Floor of the reference time, so that the efficiency of a tiny kernel is not zero."""
MLA_LATENT, MLA_ROPE, MLA_HEAD = 512, 64, 128
"""DeepSeek-V3's latent, rotary and head widths (arXiv 2412.19437, section 4.2): those of the tabulated MLA kernels."""

OPERANDS: Mapping[str, tuple[float, float, ComputeType]] = {
    "bf16": (2.0, 2.0, "bf16"),
    "fp8": (1.0, 1.0, "fp8"),
    "fp8_block": (1.0, 1.0, "fp8"),
    "fp4": (0.5625, 0.5625, "fp4"),
    "mxfp4": (0.53125, 2.0, "bf16"),
    "int4": (0.53125, 2.0, "bf16"),
    "fp32": (4.0, 4.0, "fp32"),
}
"""Bytes a weight, bytes an input, operand type (fp4: NVFP4; mxfp4 and int4: weights unpacked to 16 bit)."""
KV_BYTES: Mapping[str, float] = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0}
DIRECTIONS = ("host_to_device", "device_to_host", "device_to_device")
"""Of a copy: the first two over the PCIe link (host memory is pinned), the last within the device's memory."""
COLLECTIVES: Mapping[str, Callable[[float], float]] = {
    "all_reduce": lambda gpus: 2.0 * (gpus - 1) / gpus,
    "all_gather": lambda gpus: (gpus - 1) / gpus,
    "reduce_scatter": lambda gpus: (gpus - 1) / gpus,
    "all_to_all": lambda gpus: (gpus - 1) / gpus,
}
"""Bytes each GPU sends per byte of message (the whole vector; of an all-to-all, what one GPU holds): NCCL's bus factor
(nccl-tests, doc/PERFORMANCE.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What kernels move and compute, element-wise; `bytes_per_s` and `flops_per_s` are the device's peaks.

    `least_bytes` is what they move whatever the data (of a MoE's experts only as many as one token needs).
    """

    bytes_moved: FloatArray
    least_bytes: FloatArray
    flops: FloatArray
    bytes_per_s: float
    flops_per_s: FloatArray

    @property
    def least_s(self) -> FloatArray:
        """No kernel that streams its data is faster than this."""
        return np.maximum(self.least_bytes / self.bytes_per_s, self.flops / self.flops_per_s)

    @property
    def reference_s(self) -> FloatArray:
        """A smooth time that measured ones are compared with: increasing in every size."""
        return REFERENCE_LAUNCH_S + self.bytes_moved / self.bytes_per_s + self.flops / self.flops_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`keys` name a curve (`texts` of them are names), `size` is what it runs along, after `batch` if that is set."""

    name: str
    keys: tuple[str, ...]
    size: str
    work: Callable[[Columns, Gpu], Work]
    batch: str | None = None
    texts: tuple[str, ...] = ("operand",)

    @property
    def lines(self) -> tuple[str, ...]:
        """The columns that name one row of a packed table."""
        return self.keys if self.batch is None else (*self.keys, self.batch)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of a measured point but its time."""
        return (*self.lines, self.size)


def _number(columns: Columns, name: str) -> FloatArray:
    return np.asarray(columns[name], dtype=np.float64)


def _operands(columns: Columns, gpu: Gpu) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(bytes a weight, bytes an input, peak operations per second) by the operand column."""
    names, inverse = np.unique(np.asarray(columns["operand"], dtype=np.str_), return_inverse=True)
    unknown = next((n for n in names.tolist() if n not in OPERANDS), None)
    if unknown is not None:
        raise ProfileError(f"operand {unknown!r} is not known; known are {', '.join(OPERANDS)}.")
    table = np.array([(w, a, gpu.flops(kind)) for w, a, kind in (OPERANDS[n] for n in names.tolist())])
    return table[inverse, 0], table[inverse, 1], table[inverse, 2]


def _gemm(columns: Columns, gpu: Gpu) -> Work:
    m, n, k = (_number(columns, c) for c in ("m", "n", "k"))
    weight, activation, flops_per_s = _operands(columns, gpu)
    moved = weight * n * k + m * (activation * k + 2.0 * n)
    return _work(gpu, moved, 2.0 * m * n * k, flops_per_s)


def _moe(columns: Columns, gpu: Gpu) -> Work:
    """Gated experts on the average of tp x ep ranks."""
    names = ("tokens", "hidden", "intermediate", "experts_per_token", "experts", "tp", "ep")
    tokens, hidden, inter, chosen, experts, tp, ep = (_number(columns, c) for c in names)
    weight, activation, flops_per_s = _operands(columns, gpu)
    width, routed = inter / tp, tokens * chosen / ep
    touched = experts * (1.0 - (1.0 - chosen / experts) ** tokens) / ep
    matrices, rows = 3.0 * weight * hidden * width, routed * (hidden * (activation + 2) + width * (activation + 4))
    least = matrices * np.minimum(touched, chosen / ep) + rows
    return replace(_work(gpu, matrices * touched + rows, 6.0 * routed * hidden * width, flops_per_s), least_bytes=least)


def _prefill(columns: Columns, gpu: Gpu) -> Work:
    tokens, heads, head_dim = (_number(columns, c) for c in ("tokens", "heads", "head_dim"))
    window = _number(columns, "window")
    pairs = causal_pairs(tokens) - np.where(window > 0, 0.5 * np.maximum(tokens - window, 0.0) ** 2, 0.0)
    moved = 4.0 * head_dim * tokens * (heads + _number(columns, "kv_heads"))
    return _work(gpu, moved, 4.0 * head_dim * heads * pairs, gpu.flops(gpu.half_precision))


def _decode(columns: Columns, gpu: Gpu) -> Work:
    batch, context, window = (_number(columns, c) for c in ("batch", "context", "window"))
    heads, kv_heads, head_dim = (_number(columns, c) for c in ("heads", "kv_heads", "head_dim"))
    seen = batch * np.where(window > 0, np.minimum(context, np.maximum(window, 1)), context)
    moved = 2.0 * _kv_bytes(columns) * kv_heads * head_dim * seen
    return _work(gpu, moved, 4.0 * head_dim * heads * seen, gpu.flops(gpu.half_precision))


def _latent_prefill(columns: Columns, gpu: Gpu) -> Work:
    tokens, heads = _number(columns, "tokens"), _number(columns, "heads")
    moved = 2.0 * tokens * heads * (4 * MLA_HEAD + MLA_ROPE)
    flops = 2.0 * (2 * MLA_HEAD + MLA_ROPE) * heads * causal_pairs(tokens)
    return _work(gpu, moved, flops, gpu.flops(gpu.half_precision))


def _latent_decode(columns: Columns, gpu: Gpu) -> Work:
    seen = _number(columns, "batch") * _number(columns, "context")
    moved = _kv_bytes(columns) * (MLA_LATENT + MLA_ROPE) * seen
    flops = 2.0 * (2 * MLA_LATENT + MLA_ROPE) * _number(columns, "heads") * seen
    return _work(gpu, moved, flops, gpu.flops(gpu.half_precision))


def _collective(columns: Columns, gpu: Gpu) -> Work:
    """Bytes over the link of one GPU; nothing is computed."""
    factors = [
        COLLECTIVES[str(name)](float(gpus)) for name, gpus in zip(columns["operation"], columns["gpus"], strict=True)
    ]
    sent = np.array(factors) * _number(columns, "bytes")
    link = gpu.nvlink_bytes_per_s or gpu.pcie_bytes_per_s
    return replace(_work(gpu, sent, np.zeros(sent.shape), 1.0), bytes_per_s=link)


def _norm(columns: Columns, gpu: Gpu) -> Work:
    """Residual added and normalised: both are read and written."""
    _, element_bytes, flops_per_s = _operands(columns, gpu)
    moved = 4.0 * element_bytes * _number(columns, "hidden") * _number(columns, "tokens")
    return _work(gpu, moved, np.zeros(moved.shape), flops_per_s)


def _copy(columns: Columns, gpu: Gpu) -> Work:
    inside = np.asarray(columns["direction"], dtype=np.str_) == "device_to_device"
    # As bytes of the device's memory, at whose rate they are counted.
    moved = np.where(inside, 2.0, gpu.memory_bandwidth_bytes_per_s / gpu.pcie_bytes_per_s) * _number(columns, "bytes")
    return _work(gpu, moved, np.zeros(moved.shape), 1.0)


def _kv_bytes(columns: Columns) -> FloatArray:
    return np.array([KV_BYTES.get(str(name), 2.0) for name in columns["operand"]])


def _work(gpu: Gpu, moved: FloatArray, flops: FloatArray, flops_per_s: FloatArray | float) -> Work:
    return Work(
        bytes_moved=moved,
        least_bytes=moved,
        flops=flops,
        bytes_per_s=gpu.memory_bandwidth_bytes_per_s,
        flops_per_s=np.broadcast_to(np.asarray(flops_per_s, dtype=np.float64), flops.shape),
    )


ATTENTION = ("operand", "head_dim", "heads", "kv_heads", "window")
"""`operand` is the type of the KV cache; `window` 0 means none."""
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="gemm", keys=("operand", "n", "k"), size="m", work=_gemm),
        Kind(name="prefill_attention", keys=ATTENTION, size="tokens", work=_prefill),
        Kind(name="decode_attention", keys=ATTENTION, batch="batch", size="context", work=_decode),
        Kind(name="mla_prefill", keys=("operand", "heads"), size="tokens", work=_latent_prefill),
        Kind(name="mla_decode", keys=("operand", "heads"), batch="batch", size="context", work=_latent_decode),
        Kind(
            name="moe",
            keys=("operand", "hidden", "intermediate", "experts_per_token", "experts", "tp", "ep"),
            size="tokens",
            work=_moe,
        ),
        Kind(name="norm", keys=("operand", "hidden"), size="tokens", work=_norm),
        Kind(name="collective", keys=("operation", "gpus"), size="bytes", work=_collective, texts=("operation",)),
        Kind(name="copy", keys=("direction",), size="bytes", work=_copy, texts=("direction",)),
    )
}
