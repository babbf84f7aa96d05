"""What an engine adds to a step."""

import numpy as np

from profiles.engine_terms import captured_sizes, padded_tokens, step_overheads
from profiles.engines import GraphSizes, load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model


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


def test_the_floor_under_prefill_is_per_layer_of_the_stage() -> None:
    engine, gpu, model = load_engine("vllm"), load_gpu("h100-sxm-80gb"), load_model("llama-3.1-70b")
    whole, half = (step_overheads(engine, gpu, model, layers) for layers in (80, 40))
    assert whole.prefill_floor_s == 2 * half.prefill_floor_s == 80 * 0.3e-3
    assert whole.overhead_s == half.overhead_s
