"""Weight matrices and vectors of a model."""

from profiles.models import load_model
from profiles.parameters import (
    attention_matrices,
    dense_mlp_matrices,
    layer_vector_count,
    matrix_count,
    moe_matrices,
    outside_count,
    parameter_count,
)


def test_the_matrices_of_a_dense_layer() -> None:
    model = load_model("llama-3.1-8b")
    shapes = {m.name: (m.outputs, m.inputs, m.copies) for m in attention_matrices(model) + dense_mlp_matrices(model)}
    assert shapes == {
        "query": (4096, 4096, 1),
        "key": (1024, 4096, 1),
        "value": (1024, 4096, 1),
        "attention_output": (4096, 4096, 1),
        "mlp_up": (14336, 4096, 2),
        "mlp_down": (4096, 14336, 1),
    }
    assert moe_matrices(model) == ()


def test_the_latent_projections() -> None:
    shapes = {m.name: (m.outputs, m.inputs) for m in attention_matrices(load_model("deepseek-v3"))}
    assert shapes == {
        "query_down": (1536, 7168),
        "query_up": (128 * 192, 1536),
        "key_value_down": (576, 7168),
        "key_value_up": (128 * 256, 512),
        "attention_output": (7168, 128 * 128),
    }


def test_a_mixture_has_a_router_at_16_bit_and_a_shared_expert() -> None:
    by_name = {m.name: m for m in moe_matrices(load_model("deepseek-v3"))}
    assert not by_name["router"].quantised and by_name["expert_up"].quantised
    assert by_name["expert_up"].count == 256 * 2 * 2048 * 7168
    assert matrix_count([by_name["shared_expert_up"], by_name["shared_expert_down"]]) == 3 * 2048 * 7168


def test_vectors_of_opt() -> None:
    model = load_model("opt-13b")
    hidden = model.hidden_size
    assert layer_vector_count(model, moe_layer=False) == 2 * 2 * hidden + 4 * hidden + 4 * hidden + hidden
    assert outside_count(model) == 2050 * hidden + 2 * hidden


def test_a_tied_head_is_counted_once() -> None:
    tied = load_model("llama-3.2-1b")
    untied = tied.model_copy(update={"tie_word_embeddings": False})
    assert parameter_count(untied) - parameter_count(tied) == tied.vocab_size * tied.hidden_size
