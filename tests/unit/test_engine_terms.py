"""What an engine adds to a step."""

import numpy as np

from profiles.engine_terms import (
    LATENT_LAUNCHES,
    captured_sizes,
    launch_layers,
    padded_tokens,
    step_overheads,
    with_terms,
)
from profiles.engines import GraphSizes, TermValues, load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment, tabulate_step


def test_captured_sizes_are_vllm_s_defaults() -> None:
    sizes = captured_sizes(GraphSizes())
    assert sizes[:6].tolist() == [1, 2, 4, 8, 16, 24]
    assert sizes[-3:].tolist() == [480, 496, 512]
    assert 248 in sizes and 256 in sizes and 264 not in sizes and 272 in sizes
    assert len(set(sizes.tolist())) == len(sizes)


def test_tokens_are_padded_up_to_a_captured_size_and_left_alone_beyond() -> None:
    tokens = np.array([0, 1, 3, 5, 9, 257, 512, 513, 8000])
    assert padded_tokens(GraphSizes(), tokens).tolist() == [0, 1, 4, 8, 16, 272, 512, 513, 8000]


def test_an_engine_without_graphs_pads_nothing() -> None:
    sizes = GraphSizes(largest=0, first=())
    assert captured_sizes(sizes).size == 0
    assert padded_tokens(sizes, np.array([3, 700])).tolist() == [3, 700]


TERMS = TermValues(overhead_s=1e-3, prefill_factor=1.2, prefill_floor_s_per_layer=3e-4)


def test_the_floor_under_prefill_is_per_layer_of_the_stage() -> None:
    whole, half = (step_overheads(load_engine("vllm"), TERMS, layers) for layers in (80, 40))
    assert whole.prefill_floor_s == 2 * half.prefill_floor_s == 80 * 0.3e-3
    assert whole.overhead_s == half.overhead_s == 1e-3


def test_latent_attention_launches_more() -> None:
    plain, latent = (launch_layers(load_model(name), 20) for name in ("minimax-m2.5", "deepseek-v3"))
    assert plain == 20 and latent == LATENT_LAUNCHES * 20


def test_a_table_takes_other_terms_and_keeps_its_kernels() -> None:
    table = tabulate_step(
        Deployment(
            model=load_model("llama-3.1-8b"),
            gpu=load_gpu("h100-sxm-80gb"),
            engine=load_engine("vllm"),
            quantization=Quantization.BF16,
            kv_dtype=KvDtype.BF16,
            max_tokens=256,
        )
    )
    other = with_terms(table, TERMS, 32)
    assert (other.overhead_s, other.prefill_factor, other.prefill_floor_s) == (1e-3, 1.2, 32 * 3e-4)
    assert other.linear_s is table.linear_s and other.sampling_s is table.sampling_s
