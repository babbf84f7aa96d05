"""How a model is laid over ranks: what each rank holds, and which layouts an engine refuses."""

from dataclasses import dataclass
from enum import StrEnum

from profiles.models import ModelArchitecture, holds_experts_only
from profiles.parameters import (
    VOCABULARY_PADDING,
    Split,
    WeightMatrix,
    attention_matrices,
    dense_mlp_matrices,
    expert_vector_count,
    layer_vector_count,
    moe_matrices,
    outside_count,
)
from profiles.precision import (
    EXPERTS_ONLY,
    FP8_BLOCK,
    GROUP,
    GROUPED,
    KvDtype,
    Quantization,
    element_bytes,
    matrix_bytes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parallelism and formats of one replica.

    `tp` ranks split every layer, `pp` stages split the layers, `ep` ranks share the experts out; with ep < tp the
    experts are split by tp / ep as well; with ep > tp attention runs data-parallel over ep / tp groups.
    """

    quantization: Quantization
    kv_dtype: KvDtype
    tp: int = 1
    pp: int = 1
    ep: int = 1

    @property
    def expert_tp(self) -> int:
        """Ranks that split one expert between them."""
        return max(1, self.tp // self.ep)


class RefusalReason(StrEnum):
    """Why a layout cannot run."""

    DOES_NOT_FIT = "does_not_fit"
    HEADS = "heads"
    LAYERS = "layers"
    EXPERTS = "experts"
    SHAPE = "shape"
    FORMAT = "format"
    KV_TOO_SMALL = "kv_too_small"
    MODEL_LENGTH = "model_length"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A layout that cannot run: the reason, and one sentence for the user with the figures."""

    reason: RefusalReason
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pipeline stage: how many layers of each kind it holds, and whether it has the first or the last of them."""

    dense_layers: int
    moe_layers: int
    global_layers: int
    first: bool
    last: bool

    @property
    def layers(self) -> int:
        """Layers of the stage."""
        return self.dense_layers + self.moe_layers


def stages(model: ModelArchitecture, pp: int) -> tuple[Stage, ...]:
    """The pipeline stages as vLLM cuts them: equal, the rest from the second-last stage backwards.

    The windowed layers of a model with a sliding window are spread evenly: a stage has its share of global layers,
    rounded up.
    """
    sizes = [model.layers // pp] * pp
    for extra in range(model.layers % pp):
        sizes[-2 - extra] += 1
    found = []
    start = 0
    for index, size in enumerate(sizes):
        dense = min(max(model.dense_layers - start, 0), size)
        global_layers = -(-size * model.global_layers // model.layers)
        found.append(
            Stage(
                dense_layers=dense,
                moe_layers=size - dense,
                global_layers=global_layers,
                first=index == 0,
                last=index == pp - 1,
            )
        )
        start += size
    return tuple(found)


def rank_shape(matrix: WeightMatrix, model: ModelArchitecture, layout: Layout) -> tuple[int, int, int]:
    """(outputs, inputs, copies) that one rank holds of a matrix."""
    outputs, inputs, copies = matrix.outputs, matrix.inputs, matrix.copies
    match matrix.split:
        case Split.OUTPUTS:
            outputs //= layout.tp
        case Split.KV_OUTPUTS:
            outputs //= min(layout.tp, model.kv_heads)
        case Split.INPUTS:
            inputs //= layout.tp
        case Split.EXPERT_OUTPUTS:
            outputs, copies = outputs // layout.expert_tp, copies // layout.ep
        case Split.EXPERT_INPUTS:
            inputs, copies = inputs // layout.expert_tp, copies // layout.ep
    return outputs, inputs, copies


def stage_weight_bytes(model: ModelArchitecture, layout: Layout, stage: Stage) -> int:
    """Bytes of weights on one rank of a stage: its layers, and the tables and norms that sit at the two ends.

    A tied output head is held a second time by the last of several stages. Vectors (norms, biases) are counted on every
    rank.
    """
    plain = element_bytes(layout.quantization)
    attention = _layer_bytes(attention_matrices(model), model, layout)
    dense = _layer_bytes(dense_mlp_matrices(model), model, layout) if stage.dense_layers else 0
    mixed = _layer_bytes(moe_matrices(model), model, layout) if stage.moe_layers else 0
    vectors = stage.dense_layers * layer_vector_count(model, moe_layer=False)
    shared_vectors = layer_vector_count(model, moe_layer=True) - expert_vector_count(model)
    vectors += stage.moe_layers * (shared_vectors + expert_vector_count(model) // layout.ep)
    tables = _tables(model, stage, layout.pp) * vocabulary_rows(model, layout.tp) * model.hidden_size
    outside = outside_count(model) if stage.first else 0
    layers = stage.layers * attention + stage.dense_layers * dense + stage.moe_layers * mixed
    return layers + plain * (vectors + tables + outside)


def vocabulary_rows(model: ModelArchitecture, tp: int) -> int:
    """Rows of the vocabulary tables that one rank holds, padding included."""
    padded = -(-model.vocab_size // VOCABULARY_PADDING) * VOCABULARY_PADDING
    return -(-padded // tp)


def _tables(model: ModelArchitecture, stage: Stage, pp: int) -> int:
    head = stage.last and model.kind == "generate"
    tied_here = model.tie_word_embeddings and pp == 1
    return int(stage.first) + int(head and not tied_here)


def _layer_bytes(matrices: tuple[WeightMatrix, ...], model: ModelArchitecture, layout: Layout) -> int:
    total = 0
    for matrix in matrices:
        outputs, inputs, copies = rank_shape(matrix, model, layout)
        total += copies * matrix_bytes(stored_as(matrix, model, layout.quantization), outputs, inputs)
    return total


def stored_as(matrix: WeightMatrix, model: ModelArchitecture, quantization: Quantization) -> Quantization:
    """The format of one matrix of a model quantised so: routers, and for some all but the experts, stay at 16 bit."""
    expert = matrix.split in (Split.EXPERT_OUTPUTS, Split.EXPERT_INPUTS)
    if quantization is Quantization.FP32:
        return quantization
    if not matrix.quantised or (holds_experts_only(model, quantization) and not expert):
        return Quantization.BF16
    return quantization


def _heads(model: ModelArchitecture, layout: Layout) -> str | None:
    tp = layout.tp
    if model.heads % tp:
        return f"The {model.heads} attention heads of {model.name} cannot be divided by tp {tp}."
    if model.mla is None and model.kv_heads % tp and tp % model.kv_heads:
        return f"The {model.kv_heads} KV heads of {model.name} can be neither divided by tp {tp} nor replicated evenly."
    return None


def _layers(model: ModelArchitecture, layout: Layout) -> str | None:
    if layout.pp > model.layers:
        return f"{model.name} has {model.layers} layers: fewer than pp {layout.pp}."
    return None


def _experts(model: ModelArchitecture, layout: Layout) -> str | None:
    if model.moe is None:
        if layout.quantization in EXPERTS_ONLY:
            return f"{layout.quantization} stores routed experts, and {model.name} has none."
        return f"{model.name} has no experts: ep {layout.ep} must be 1." if layout.ep > 1 else None
    if model.moe.experts % layout.ep:
        return f"The {model.moe.experts} experts of {model.name} cannot be divided by ep {layout.ep}."
    if layout.tp % layout.ep and layout.ep % layout.tp:
        return f"ep {layout.ep} must divide tp {layout.tp} or be a multiple of it."
    return None


def _shapes(model: ModelArchitecture, layout: Layout) -> str | None:
    for matrix in _matrices(model):
        ways = _ways(matrix, layout)
        length = matrix.inputs if matrix.split in (Split.INPUTS, Split.EXPERT_INPUTS) else matrix.outputs
        if length % ways:
            return f"{model.name}: {length} of {matrix.name} cannot be divided by {ways} ranks."
    return None


def _blocks(model: ModelArchitecture, layout: Layout) -> str | None:
    block = FP8_BLOCK if layout.quantization is Quantization.FP8_BLOCK else 0
    group = GROUP if layout.quantization in GROUPED else block
    for matrix in _matrices(model):
        if stored_as(matrix, model, layout.quantization) is not layout.quantization or _ways(matrix, layout) == 1:
            continue
        outputs, inputs, _ = rank_shape(matrix, model, layout)
        if matrix.split in (Split.INPUTS, Split.EXPERT_INPUTS):
            length, size = inputs, group
        else:
            length, size = outputs, block
        if size and length % size:
            return (
                f"{model.name} in {layout.quantization}: {matrix.name} is cut to {length} a rank"
                f" (tp {layout.tp}, ep {layout.ep}), no multiple of the {size} that share a scale."
            )
    return None


def _ways(matrix: WeightMatrix, layout: Layout) -> int:
    if matrix.split in (Split.EXPERT_OUTPUTS, Split.EXPERT_INPUTS):
        return layout.expert_tp
    return layout.tp if matrix.split in (Split.OUTPUTS, Split.INPUTS) else 1


def _matrices(model: ModelArchitecture) -> tuple[WeightMatrix, ...]:
    dense = dense_mlp_matrices(model) if model.dense_layers else ()
    return (*attention_matrices(model), *dense, *moe_matrices(model))


CHECKS = (
    (RefusalReason.HEADS, _heads),
    (RefusalReason.LAYERS, _layers),
    (RefusalReason.EXPERTS, _experts),
    (RefusalReason.SHAPE, _shapes),
    (RefusalReason.SHAPE, _blocks),
)


def layout_refusal(model: ModelArchitecture, layout: Layout) -> Refusal | None:
    """The first rule of the engine that the layout breaks, whatever the GPU; None when it breaks none.

    The rules are those of vLLM's linear layers, its block-wise fp8 method and its pipeline cut. Raises ValueError when
    tp, pp or ep is below 1.
    """
    if min(layout.tp, layout.pp, layout.ep) < 1:
        raise ValueError(f"tp, pp and ep must be at least 1, not {layout.tp}, {layout.pp}, {layout.ep}")
    for reason, check in CHECKS:
        sentence = check(model, layout)
        if sentence is not None:
            return Refusal(reason=reason, sentence=sentence)
    return None
