"""Kernels of a serving engine as torch runs them, named as kernel tables name them. Run by the engine's own Python.

`build` gives a closure that does the work once; its data lies ready on the device.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F  # noqa: N812  as torch's own documentation names it

Run = Callable[[], object]
Columns = Mapping[str, Any]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
PATTERN = 1 << 20
LATENT, LATENT_ROPE, LATENT_KEY, LATENT_VALUE = 512, 64, 192, 128
"""Widths of DeepSeek-V3's latent attention: the cache, its positional part, and a head's key and value in a prompt."""


class UnsupportedError(Exception):
    """This device or this torch cannot run such a kernel."""


def build(kernel: str, columns: Columns, device: torch.device) -> Run:
    """The kernel of these columns; UnsupportedError when it cannot run here."""
    if kernel not in BUILDERS:
        raise UnsupportedError(f"{kernel} is not among the kernels that are measured here")
    return BUILDERS[kernel](columns, device)


def filled(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of small random values, the same ones over and over: drawing them all would take longer than the run."""
    count = 1
    for size in shape:
        count *= size
    some = torch.randn(min(count, PATTERN), device=device).mul_(0.1).to(torch.bfloat16)
    copies = -(-count // some.numel())
    return some.repeat(copies)[:count].view(shape).to(kind)


def _gemm(columns: Columns, device: torch.device) -> Run:
    m, n, k, kind = columns["m"], columns["n"], columns["k"], _type(columns)
    if kind is torch.float8_e4m3fn:
        return _fp8_gemm((m, n, k), device)
    inputs, weights = filled((m, k), kind, device), filled((n, k), kind, device)
    return lambda: F.linear(inputs, weights)


def _fp8_gemm(shape: tuple[int, int, int], device: torch.device) -> Run:
    m, n, k = shape
    if device.type != "cuda":
        raise UnsupportedError("fp8 products run on a GPU only")
    if k % 16 or n % 16:
        raise UnsupportedError("fp8 products need n and k that 16 divides")
    one = torch.ones((), device=device)
    inputs, weights = filled((m, k), torch.float8_e4m3fn, device), filled((n, k), torch.float8_e4m3fn, device).t()
    return lambda: torch._scaled_mm(inputs, weights, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def _prefill(columns: Columns, device: torch.device) -> Run:
    """One prompt; `done` of its tokens came in earlier chunks, whose keys and values are there."""
    tokens, heads, kv_heads, width = (columns[c] for c in ("tokens", "heads", "kv_heads", "head_dim"))
    kind, window, done = _half(_type(columns)), columns["window"], columns.get("done", 0)
    flash = _flash(device, kind)
    if flash is not None:
        return _packed(flash, columns, (1, tokens - done, tokens), device)
    _no_window(window)
    q = filled((1, heads, tokens - done, width), kind, device)
    k, v = (filled((1, kv_heads, tokens, width), kind, device) for _ in range(2))
    grouped = heads != kv_heads
    if not done:
        return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    mask = torch.ones(tokens - done, tokens, dtype=torch.bool, device=device).tril(done)
    return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)


def _decode(columns: Columns, device: torch.device) -> Run:
    names = ("batch", "context", "heads", "kv_heads", "head_dim")
    batch, context, heads, kv_heads, width = (columns[c] for c in names)
    kind, window = _half(_type(columns)), columns["window"]
    flash = _flash(device, kind)
    if flash is not None:
        return _packed(flash, columns, (batch, 1, context), device)
    _no_window(window)
    # The query heads that share a KV head as rows of one query: nothing is masked, and the cache is read once for all.
    q = filled((batch, kv_heads, heads // kv_heads, width), kind, device)
    k, v = (filled((batch, kv_heads, context, width), kind, device) for _ in range(2))
    return lambda: F.scaled_dot_product_attention(q, k, v)


def _latent_prefill(columns: Columns, device: torch.device) -> Run:
    """One prompt of a model with latent attention, its keys and values expanded for every head (DeepSeek-V3)."""
    tokens, heads, kind = columns["tokens"], columns["heads"], _half(_type(columns))
    q, k = (filled((1, heads, tokens, LATENT_KEY), kind, device) for _ in range(2))
    v = filled((1, heads, tokens, LATENT_VALUE), kind, device)
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _latent_decode(columns: Columns, device: torch.device) -> Run:
    """New tokens that attend in the latent space: all heads read one cache, whose first part is the values too."""
    batch, context, heads, kind = (*(columns[c] for c in ("batch", "context", "heads")), _half(_type(columns)))
    q = filled((batch, 1, heads, LATENT + LATENT_ROPE), kind, device)
    cache = filled((batch, 1, context, LATENT + LATENT_ROPE), kind, device)
    return lambda: F.scaled_dot_product_attention(q, cache, cache[..., :LATENT])


def _packed(flash: Callable[..., object], columns: Columns, shape: tuple[int, int, int], device: torch.device) -> Run:
    """FlashAttention over `shape` = (sequences, queries of each, keys of each), one after another in memory."""
    sequences, queries, keys = shape
    heads, kv_heads, width, window = (columns[c] for c in ("heads", "kv_heads", "head_dim", "window"))
    kind = _type(columns)
    q = filled((sequences * queries, heads, width), kind, device)
    k, v = (filled((sequences * keys, kv_heads, width), kind, device) for _ in range(2))
    starts = torch.arange(sequences + 1, dtype=torch.int32, device=device)
    ends = {"cu_seqlens_q": starts * queries, "cu_seqlens_k": starts * keys}
    ends |= {"max_seqlen_q": queries, "max_seqlen_k": keys}
    seen = [window - 1, 0] if window else [-1, -1]
    return lambda: flash(q, k, v, causal=True, window_size=seen, **ends)


def _norm(columns: Columns, device: torch.device) -> Run:
    shape, kind = (columns["tokens"], columns["hidden"]), _type(columns)
    inputs, residual, weights = (
        filled(shape, kind, device),
        filled(shape, kind, device),
        filled(shape[1:], kind, device),
    )
    return lambda: F.rms_norm(residual.add_(inputs), shape[1:], weights)


def _activation(columns: Columns, device: torch.device) -> Run:
    width, tokens, kind = columns["width"], columns["tokens"], _type(columns)
    both = filled((tokens, 2 * width), kind, device)
    return lambda: F.silu(both[:, :width]) * both[:, width:]


def _copy(columns: Columns, device: torch.device) -> Run:
    size, direction = columns["bytes"], columns["direction"]
    if device.type != "cuda" and direction != "device_to_device":
        raise UnsupportedError("a processor has no device memory to copy to")
    here = torch.zeros(size, dtype=torch.uint8, device=device)
    if direction == "device_to_device":
        other = torch.zeros(size, dtype=torch.uint8, device=device)
        return lambda: other.copy_(here)
    host = torch.zeros(size, dtype=torch.uint8).pin_memory()
    if direction == "host_to_device":
        return lambda: here.copy_(host, non_blocking=True)
    return lambda: host.copy_(here, non_blocking=True)


def _moe(columns: Columns, device: torch.device) -> Run:
    """Gated experts of one of tp x ep ranks under uniform routing: gather, two grouped products, scatter."""
    kind, experts, ep = _type(columns), columns["experts"], columns["ep"]
    hidden, width, local = columns["hidden"], columns["intermediate"] // columns["tp"], experts // ep
    chosen = torch.rand(columns["tokens"], experts, generator=torch.Generator().manual_seed(0))
    chosen = chosen.topk(columns["experts_per_token"], dim=1).indices
    token, choice = (chosen < local).nonzero(as_tuple=True)
    expert, order = chosen[token, choice].sort()
    rows = token[order].to(device)
    counts = torch.bincount(expert, minlength=local)
    inputs = filled((columns["tokens"], hidden), kind, device)
    up, down = filled((local, hidden, 2 * width), kind, device), filled((local, width, hidden), kind, device)
    product = _grouped(counts, kind, device)
    total = torch.zeros_like(inputs)

    def run() -> torch.Tensor:
        both = product(inputs.index_select(0, rows), up)
        mixed = F.silu(both[:, :width]) * both[:, width:]
        return total.index_add_(0, rows, product(mixed, down))

    return run


def _grouped(
    counts: torch.Tensor, kind: torch.dtype, device: torch.device
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A product of rows, sorted by group, with the matrix of each group."""
    if kind is torch.float8_e4m3fn:
        raise UnsupportedError("experts are measured at 16 bit and fp32")
    grouped = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if kind is torch.bfloat16 and grouped is not None:
        ends = counts.cumsum(0).to(torch.int32).to(device)
        return lambda rows, matrices: grouped(rows, matrices, offs=ends)
    held = [(index, count) for index, count in enumerate(counts.tolist()) if count]

    def one_by_one(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        parts = rows.split([count for _, count in held])
        return torch.cat([part @ matrices[index] for part, (index, _) in zip(parts, held, strict=True)])

    return one_by_one


def _collective(columns: Columns, device: torch.device) -> Run:
    """A collective of the processes that were started together; `bytes` is the whole vector."""
    ranks, operation = columns["gpus"], columns["operation"]
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    count = max(columns["bytes"] // kind.itemsize // ranks, 1)
    whole, part = torch.zeros(count * ranks, dtype=kind, device=device), torch.zeros(count, dtype=kind, device=device)
    other = torch.zeros_like(whole)
    runs: dict[str, Run] = {
        "all_reduce": lambda: torch.distributed.all_reduce(whole),
        "all_gather": lambda: torch.distributed.all_gather_into_tensor(whole, part),
        "reduce_scatter": lambda: torch.distributed.reduce_scatter_tensor(part, whole),
        "all_to_all": lambda: torch.distributed.all_to_all_single(other, whole),
    }
    return runs[operation]


def _type(columns: Columns) -> torch.dtype:
    if columns["operand"] not in TYPES:
        raise UnsupportedError(f"{columns['operand']} is not measured with torch: {', '.join(TYPES)} are")
    return TYPES[columns["operand"]]


def _half(kind: torch.dtype) -> torch.dtype:
    if kind is torch.float8_e4m3fn:
        raise UnsupportedError("torch's attention reads no fp8 cache")
    return kind


def _flash(device: torch.device, kind: torch.dtype) -> Callable[..., Any] | None:
    """FlashAttention, vLLM's or its authors', where installed: it splits a long cache over SMs, torch's does not."""
    if device.type != "cuda" or kind is not torch.bfloat16:
        return None
    for name in ("vllm.vllm_flash_attn", "flash_attn"):
        try:
            return importlib.import_module(name).flash_attn_varlen_func  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            continue
    return None


def _no_window(window: int) -> None:
    if window:
        raise UnsupportedError("a sliding window needs FlashAttention, which is not installed")


BUILDERS: Mapping[str, Callable[[Columns, torch.device], Run]] = {
    "gemm": _gemm,
    "prefill_attention": _prefill,
    "decode_attention": _decode,
    "mla_prefill": _latent_prefill,
    "mla_decode": _latent_decode,
    "norm": _norm,
    "activation": _activation,
    "moe": _moe,
    "collective": _collective,
    "copy": _copy,
}
