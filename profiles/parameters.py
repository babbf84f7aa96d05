"""The weight matrices of a model, listed: what parameter counts, bytes per rank and GEMM shapes are read from."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from profiles.models import ModelArchitecture

VOCABULARY_PADDING = 64
"""vLLM pads the vocabulary to a multiple of this before it splits it over ranks."""


class Split(Enum):
    """How tensor or expert parallelism divides a matrix."""

    OUTPUTS = auto()
    """By outputs (column parallel): heads, MLP up and gate."""
    KV_OUTPUTS = auto()
    """By outputs while there are KV heads left; replicated beyond that."""
    INPUTS = auto()
    """By inputs (row parallel): attention output, MLP down."""
    EXPERT_OUTPUTS = auto()
    """Experts over ep, and their outputs over what tp leaves."""
    EXPERT_INPUTS = auto()
    NONE = auto()
    """Every rank holds all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMatrix:
    """`copies` equal matrices of one layer, each with `outputs` rows and `inputs` columns.

    `quantised` ones take the model's weight format, the others stay at 16 bit (routers).
    """

    name: str
    outputs: int
    inputs: int
    split: Split
    copies: int = 1
    quantised: bool = True

    @property
    def count(self) -> int:
        """Elements of all copies."""
        return self.outputs * self.inputs * self.copies


def attention_matrices(model: ModelArchitecture) -> tuple[WeightMatrix, ...]:
    """The projections of one layer's attention, unfused."""
    if model.mla is not None:
        return _latent_attention_matrices(model)
    hidden, queries, keys = model.hidden_size, model.heads * model.head_dim, model.kv_heads * model.head_dim
    return (
        WeightMatrix(name="query", outputs=queries, inputs=hidden, split=Split.OUTPUTS),
        WeightMatrix(name="key", outputs=keys, inputs=hidden, split=Split.KV_OUTPUTS),
        WeightMatrix(name="value", outputs=keys, inputs=hidden, split=Split.KV_OUTPUTS),
        WeightMatrix(name="attention_output", outputs=hidden, inputs=queries, split=Split.INPUTS),
    )


def _latent_attention_matrices(model: ModelArchitecture) -> tuple[WeightMatrix, ...]:
    mla = model.mla
    assert mla is not None
    hidden, heads = model.hidden_size, model.heads
    queries = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    key_values = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    query: tuple[WeightMatrix, ...]
    if mla.q_lora_rank is None:
        query = (WeightMatrix(name="query", outputs=queries, inputs=hidden, split=Split.OUTPUTS),)
    else:
        query = (
            WeightMatrix(name="query_down", outputs=mla.q_lora_rank, inputs=hidden, split=Split.NONE),
            WeightMatrix(name="query_up", outputs=queries, inputs=mla.q_lora_rank, split=Split.OUTPUTS),
        )
    latent = mla.kv_lora_rank + mla.qk_rope_head_dim
    return (
        *query,
        WeightMatrix(name="key_value_down", outputs=latent, inputs=hidden, split=Split.NONE),
        WeightMatrix(name="key_value_up", outputs=key_values, inputs=mla.kv_lora_rank, split=Split.OUTPUTS),
        WeightMatrix(name="attention_output", outputs=hidden, inputs=heads * mla.v_head_dim, split=Split.INPUTS),
    )


def dense_mlp_matrices(model: ModelArchitecture) -> tuple[WeightMatrix, ...]:
    """The MLP of a layer without experts."""
    return _mlp(model, "mlp", model.intermediate_size)


def moe_matrices(model: ModelArchitecture) -> tuple[WeightMatrix, ...]:
    """Router, routed experts and shared expert of one layer; empty for a dense model."""
    moe = model.moe
    if moe is None:
        return ()
    hidden, inner, ups = model.hidden_size, moe.expert_intermediate_size, 2 if model.gated_mlp else 1
    shared = _mlp(model, "shared_expert", moe.shared_intermediate_size) if moe.shared_intermediate_size else ()
    return (
        WeightMatrix(name="router", outputs=moe.experts, inputs=hidden, split=Split.NONE, quantised=False),
        WeightMatrix(
            name="expert_up", outputs=inner, inputs=hidden, split=Split.EXPERT_OUTPUTS, copies=moe.experts * ups
        ),
        WeightMatrix(name="expert_down", outputs=hidden, inputs=inner, split=Split.EXPERT_INPUTS, copies=moe.experts),
        *shared,
    )


def _mlp(model: ModelArchitecture, name: str, inner: int) -> tuple[WeightMatrix, ...]:
    ups = 2 if model.gated_mlp else 1
    return (
        WeightMatrix(name=f"{name}_up", outputs=inner, inputs=model.hidden_size, split=Split.OUTPUTS, copies=ups),
        WeightMatrix(name=f"{name}_down", outputs=model.hidden_size, inputs=inner, split=Split.INPUTS),
    )


def layer_vector_count(model: ModelArchitecture, *, moe_layer: bool) -> int:
    """Elements of one layer that are no matrix: norms, biases, attention sinks."""
    hidden, queries, keys = model.hidden_size, model.heads * model.head_dim, model.kv_heads * model.head_dim
    count = model.norms_per_layer * _norm_count(model)
    count += (queries + 2 * keys) * model.attention_bias + hidden * model.attention_output_bias
    count += model.heads * model.attention_sinks
    count += {"none": 0, "head": 2 * model.head_dim, "full": queries + keys}[model.qk_norm]
    if model.mla is not None:
        count += (model.mla.q_lora_rank or 0) + model.mla.kv_lora_rank
    if moe_layer and model.moe is not None:
        count += model.moe.experts * model.moe.router_bias + expert_vector_count(model)
    else:
        ups = 2 if model.gated_mlp else 1
        count += (ups * model.intermediate_size + hidden) * model.mlp_bias
    return count


def expert_vector_count(model: ModelArchitecture) -> int:
    """Elements of the biases of one layer's routed experts."""
    moe = model.moe
    if moe is None or not moe.expert_bias:
        return 0
    ups = 2 if model.gated_mlp else 1
    return moe.experts * (ups * moe.expert_intermediate_size + model.hidden_size)


def outside_count(model: ModelArchitecture) -> int:
    """Elements outside the layers and the two vocabulary tables: positions, outer norms, what is not the decoder."""
    norms = (int(model.final_norm) + int(model.embedding_norm)) * _norm_count(model)
    return model.position_rows * model.hidden_size + norms + model.extra_parameters


def _norm_count(model: ModelArchitecture) -> int:
    return model.hidden_size * (2 if model.norm_bias else 1)


def matrix_count(matrices: Iterable[WeightMatrix]) -> int:
    """Elements of all the matrices."""
    return sum(matrix.count for matrix in matrices)


def parameter_count(model: ModelArchitecture) -> int:
    """All parameters of the model, as its makers count them (a tied output head once)."""
    tables = 1 if model.tie_word_embeddings or model.kind == "embed" else 2
    dense = matrix_count(dense_mlp_matrices(model)) + layer_vector_count(model, moe_layer=False)
    mixed = matrix_count(moe_matrices(model)) + layer_vector_count(model, moe_layer=True)
    return (
        tables * model.vocab_size * model.hidden_size
        + model.layers * matrix_count(attention_matrices(model))
        + model.dense_layers * dense
        + model.moe_layers * mixed
        + outside_count(model)
    )


def active_parameter_count(model: ModelArchitecture) -> int:
    """Parameters one token passes through: all but the experts it is not sent to."""
    if model.moe is None:
        return parameter_count(model)
    routed = sum(m.count for m in moe_matrices(model) if m.name.startswith("expert_"))
    idle = routed * (model.moe.experts - model.moe.experts_per_token) // model.moe.experts
    return parameter_count(model) - model.moe_layers * idle
