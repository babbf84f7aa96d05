"""Step tables of deployments."""

import numpy as np
import pytest

from profiles.engines import load_engine
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_table import PREFILL_GRID_TOKENS, Component
from profiles.step_time import Deployment, estimate_breakdown, tabulate_step


def deployment(model: str = "llama-3.1-8b", gpu: str = "h100-sxm-80gb", **changes: object) -> Deployment:
    """A deployment at bf16 on one GPU, with changes."""
    values: dict[str, object] = {"quantization": Quantization.BF16, "kv_dtype": KvDtype.BF16, **changes}
    return Deployment(model=load_model(model), gpu=load_gpu(gpu), engine=load_engine("vllm"), **values)  # type: ignore[arg-type]


def test_the_tables_have_the_contract_s_shapes() -> None:
    table = tabulate_step(deployment(max_tokens=2048))
    assert table.linear_s.shape == (2049,)
    assert table.decode_attention_s.shape == (12, 26)
    assert table.prefill_attention_s.shape == (131072 // PREFILL_GRID_TOKENS + 1,)
    assert table.sampling_s.shape == (1025,)
    assert len(table.component_evidence) == len(Component)
    assert table.stages == 1 and table.send_s_per_token == 0.0


def test_a_step_of_one_sequence_reads_the_weights_once() -> None:
    table = tabulate_step(deployment())
    weights_s = 2 * 7.5e9 / 3.352e12
    step_s = table.linear_s[1] + table.sampling_s[1] + table.decode_attention_s[0, 10]
    assert weights_s < step_s < 1.6 * weights_s
    assert table.linear_s[0] == table.linear_s[1]


def test_a_big_prefill_runs_near_the_fitted_share_of_the_peak() -> None:
    table = tabulate_step(deployment())
    flops = 2 * 6.98e9 * 8192
    assert 0.6 < flops / table.linear_s[8192] / 989.4e12 < 0.85


def test_decode_batches_are_padded_to_graph_sizes() -> None:
    table = tabulate_step(deployment())
    assert table.linear_s[9] == table.linear_s[16]
    assert table.linear_s[17] > table.linear_s[16]
    assert table.linear_s[513] > table.linear_s[512]


def test_pipeline_stages_share_the_layers() -> None:
    one, two = tabulate_step(deployment()), tabulate_step(deployment(pp=2))
    assert two.linear_s[64] == pytest.approx(one.linear_s[64] / 2, rel=0.01)
    assert two.decode_attention_s[5, 15] == pytest.approx(one.decode_attention_s[5, 15] / 2)
    assert two.prefill_floor_s == one.prefill_floor_s / 2
    assert two.stages == 2 and two.send_s_per_token > 0


def test_stages_on_several_nodes_send_over_the_network() -> None:
    near = tabulate_step(deployment(pp=2, inter_node_bytes_per_s=5e9))
    far = tabulate_step(deployment(pp=2, gpus_per_node=1, inter_node_bytes_per_s=5e9))
    assert far.send_s_per_token == pytest.approx(2 * 4096 / (0.8 * 5e9))
    assert far.send_s_per_token > near.send_s_per_token


def test_fp8_cache_halves_the_bytes_that_decode_reads() -> None:
    wide = tabulate_step(deployment())
    narrow = tabulate_step(deployment(kv_dtype=KvDtype.FP8))
    assert narrow.decode_attention_s[6, 20] < 0.6 * wide.decode_attention_s[6, 20]


def test_sliding_window_layers_stop_growing() -> None:
    table = tabulate_step(deployment("gpt-oss-20b", quantization=Quantization.MXFP4))
    model = load_model("gpt-oss-20b")
    assert model.sliding_window is not None
    row = table.decode_attention_s[0]
    whole = model.layers - model.sliding_window.layers
    token_s = 2 * model.kv_heads * model.head_dim * 2 / 3.352e12
    growth_s = (row[-1] - row[-2]) / 2.0 ** (len(row) - 2)
    assert growth_s == pytest.approx(whole * token_s, rel=0.15)


def test_latents_are_not_split_by_tp() -> None:
    four, eight = (
        tabulate_step(deployment("deepseek-v3", "b200-sxm-180gb", quantization=Quantization.FP8_BLOCK, tp=tp))
        for tp in (4, 8)
    )
    assert eight.decode_attention_s[6, 18] == pytest.approx(four.decode_attention_s[6, 18], rel=0.3)


@pytest.mark.parametrize("prefill_tokens", [0, 700])
def test_the_breakdown_adds_up_to_the_table_s_step(prefill_tokens: int) -> None:
    way = deployment("llama-3.1-70b", quantization=Quantization.FP8, tp=4, pp=2)
    table = tabulate_step(way)
    batch, context = 32, 2048
    tokens = batch + prefill_tokens
    factor = table.prefill_factor if prefill_tokens else 1.0
    attention = np.interp(prefill_tokens / PREFILL_GRID_TOKENS, np.arange(20), table.prefill_attention_s[:20])
    step_s = factor * (table.linear_s[tokens] + float(attention)) + table.decode_attention_s[5, 16]
    step_s += table.sampling_s[batch + (1 if prefill_tokens else 0)] + table.overhead_s
    step_s = max(step_s, table.prefill_floor_s) if prefill_tokens else step_s
    breakdown = estimate_breakdown(way, prefill_tokens=prefill_tokens, decode_batch=batch, context=context)
    assert sum(seconds for _, seconds, _ in breakdown) == pytest.approx(step_s, rel=1e-3)
    assert all(seconds > 0 for _, seconds, _ in breakdown)


def test_a_short_prefill_is_bound_by_launches() -> None:
    way = deployment(gpu="b200-sxm-180gb")
    breakdown = estimate_breakdown(way, prefill_tokens=16, decode_batch=0, context=0)
    assert breakdown[-1][0] == "launch bound"
    assert sum(seconds for _, seconds, _ in breakdown) == pytest.approx(way.overheads.prefill_floor_s)


def test_evidence_follows_the_calibration() -> None:
    own = tabulate_step(deployment(tp=2)).component_evidence
    lent = tabulate_step(deployment(gpu="l4-24gb", tp=1)).component_evidence
    for component in (Component.DECODE_ATTENTION, Component.PREFILL_ATTENTION):
        assert own[component].headline is Evidence.MEASURED, "1024 tokens are a point of the grid"
    assert set(own[Component.LINEAR].fractions) == {Evidence.INTERPOLATED, Evidence.SCALED}
    assert own[Component.LINEAR].fractions[Evidence.SCALED] < 0.15, "norms and the like have no table"
    assert lent[Component.LINEAR].headline is Evidence.MODELLED
    assert own[Component.ENGINE].headline is lent[Component.ENGINE].headline is Evidence.FITTED
    assert own[Component.SAMPLING].fractions[Evidence.FITTED] > 0


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("llama-3.1-8b", {"tp": 3}, "32 attention heads, which tp 3"),
        ("llama-3.1-8b", {"pp": 33}, "leaves stages empty"),
        ("llama-3.1-8b", {"tp": 0}, "at least 1"),
        ("llama-3.1-8b", {"ep": 2}, "no experts"),
        ("qwen3-30b-a3b", {"tp": 4, "ep": 3}, "ep 3 must divide its 128 experts"),
        ("llama-3.1-8b", {"gpu": "a100-sxm-80gb", "kv_dtype": KvDtype.FP8}, "cannot read a KV cache of fp8"),
    ],
)
def test_what_cannot_run_is_refused_by_name(model: str, changes: dict[str, object], message: str) -> None:
    gpu = str(changes.get("gpu", "h100-sxm-80gb"))
    rest = {key: value for key, value in changes.items() if key != "gpu"}
    with pytest.raises(ProfileError, match=message):
        tabulate_step(deployment(model, gpu, **rest))
