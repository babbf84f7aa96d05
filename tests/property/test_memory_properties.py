"""Memory on generated layouts: what more ranks, more memory and smaller formats may do."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.layout import Layout, layout_refusal
from profiles.memory import (
    EngineMemory,
    MemoryBudget,
    kv_bytes_per_token_per_rank,
    memory_budget,
    weight_bytes_per_rank,
)
from profiles.models import load_model, model_names
from profiles.precision import KvDtype, Quantization
from profiles.units import GIB

MODELS = st.sampled_from(model_names())
WAYS = st.sampled_from((1, 2, 4, 8))
FORMATS = st.sampled_from(tuple(Quantization))


@dataclass(frozen=True)
class Device:
    """Memory and units of a made-up GPU."""

    name: str = "made-up"
    visible_memory_bytes: int = 80 * GIB
    peak_flops: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("fp32", "bf16", "fp16", "fp8", "int8", "fp4"), 1e15)
    )


ENGINE = EngineMemory(
    gpu_memory_utilization=0.9,
    process_overhead_bytes=2 * GIB,
    max_model_len_tokens=2048,
    max_num_batched_tokens=4096,
    max_num_seqs=128,
    block_tokens=16,
    reserved_blocks=1,
)


@settings(max_examples=150)
@given(MODELS, FORMATS, WAYS, WAYS, WAYS, st.integers(16, 300))
def test_a_budget_adds_up_and_grows_with_memory(
    name: str, quantization: Quantization, tp: int, pp: int, ep: int, memory_gib: int
) -> None:
    layout = Layout(quantization=quantization, kv_dtype=KvDtype.BF16, tp=tp, pp=pp, ep=ep)
    device = Device(visible_memory_bytes=memory_gib * GIB)
    found = memory_budget(load_model(name), layout, device, ENGINE)
    if not isinstance(found, MemoryBudget):
        assert found.sentence.endswith(".")
        return
    parts = found.slack_bytes + found.process_overhead_bytes + found.weight_bytes + found.activation_bytes
    assert parts + found.cuda_graph_bytes + found.kv_bytes == found.visible_bytes
    assert found.kv_bytes > 0
    larger = memory_budget(
        load_model(name), layout, replace(device, visible_memory_bytes=(memory_gib + 8) * GIB), ENGINE
    )
    assert isinstance(larger, MemoryBudget) and larger.kv_tokens >= found.kv_tokens


@settings(max_examples=150)
@given(MODELS, FORMATS, WAYS, WAYS, WAYS)
def test_more_ranks_hold_no_more_each_and_no_less_together(
    name: str, quantization: Quantization, tp: int, pp: int, ep: int
) -> None:
    model = load_model(name)
    layout = Layout(quantization=quantization, kv_dtype=KvDtype.BF16, tp=tp, pp=pp, ep=ep)
    single = Layout(quantization=quantization, kv_dtype=KvDtype.BF16)
    if layout_refusal(model, layout) is not None:
        return
    alone = weight_bytes_per_rank(model, single)
    each = weight_bytes_per_rank(model, layout)
    # Group scales and padded vocabulary rows may make the parts a little more than the whole, never the part.
    assert each <= 1.02 * alone
    assert each * tp * pp * max(1, ep // tp) >= 0.999 * alone
    token = kv_bytes_per_token_per_rank(model, KvDtype.BF16, tp, pp)
    assert token <= kv_bytes_per_token_per_rank(model, KvDtype.BF16, 1, 1) <= token * tp * pp
