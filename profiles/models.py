"""Architectures of models: the shapes that decide weights, KV cache and the kernels of a step."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from profiles.catalogue_files import Provenance, data_names, load_data
from profiles.precision import EXPERTS_ONLY, Quantization

FOLDER = "models"


class Shape(BaseModel):
    """Base of the parts of an architecture: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LatentAttention(Shape):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): one latent a token, no K and V."""

    q_lora_rank: int | None = Field(default=None, ge=1)
    kv_lora_rank: int = Field(ge=1)
    qk_nope_head_dim: int = Field(ge=1)
    qk_rope_head_dim: int = Field(ge=1)
    v_head_dim: int = Field(ge=1)


class MixtureOfExperts(Shape):
    """Routed experts of the layers after the first `dense_layers`; shared experts count as one wide MLP."""

    experts: int = Field(ge=1)
    experts_per_token: int = Field(ge=1)
    expert_intermediate_size: int = Field(ge=1)
    shared_intermediate_size: int = Field(default=0, ge=0)
    dense_layers: int = Field(default=0, ge=0)
    router_bias: bool = False
    expert_bias: bool = False

    @model_validator(mode="after")
    def _chooses_among_its_experts(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token ({self.experts_per_token}) is more than experts ({self.experts})")
        return self


class SlidingWindow(Shape):
    """`layers` of the model's layers see the last `window_tokens` tokens only."""

    window_tokens: int = Field(ge=1)
    layers: int = Field(ge=1)


class PublishedParameters(Shape):
    """The total the model's makers state, to check the architecture against; as exact as they print it."""

    total: float = Field(gt=0)
    source: str = Field(min_length=1)


class ModelArchitecture(Shape):
    """One model as its `config.json` describes it. Sizes are counts of elements, lengths are tokens.

    `position_rows` are the rows of a learned position table (0 with rotary embedding); `norms_per_layer`, `norm_bias`
    say which norm vectors a layer has; `qk_norm` is none, one vector of head_dim each for Q and K (`head`), or one over
    all heads (`full`); `extra_parameters` are weights outside the decoder that an engine loads too (vision tower,
    projector, pooler), held at 16 bit on the first pipeline stage; `encoder_only` models keep no KV cache.
    """

    name: str = Field(min_length=1)
    kind: Literal["generate", "embed"] = "generate"
    layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=1)
    gated_mlp: bool = True
    tie_word_embeddings: bool = False
    learned_positions: bool = False
    position_rows: int = Field(default=0, ge=0)
    embedding_norm: bool = False
    attention_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    norms_per_layer: int = Field(default=2, ge=0)
    final_norm: bool = True
    qk_norm: Literal["none", "head", "full"] = "none"
    attention_sinks: bool = False
    encoder_only: bool = False
    dtype: Quantization = Quantization.BF16
    attention: Literal["gqa", "mla"] = "gqa"
    mla: LatentAttention | None = None
    moe: MixtureOfExperts | None = None
    sliding_window: SlidingWindow | None = None
    extra_parameters: int = Field(default=0, ge=0)
    extra_parameters_are: str = ""
    hf_id: str = ""
    gated: bool = False
    experts_only: tuple[Quantization, ...] = ()
    """Formats whose published checkpoints hold the routed experts only, with all else at 16 bit."""
    parameters: PublishedParameters | None = None
    provenance: Provenance

    @property
    def digest(self) -> str:
        """SHA-256 (16 digits) of what an engine computes: equal for equal architectures, whatever they are called."""
        text = self.model_dump_json(exclude={"name", "hf_id", "gated", "experts_only", "parameters", "provenance"})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if (self.mla is not None) != (self.attention == "mla"):
            raise ValueError("attention 'mla' and the field mla go together")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) is no multiple of kv_heads ({self.kv_heads})")
        if self.learned_positions != (self.position_rows > 0):
            raise ValueError("learned_positions and position_rows go together")
        if self.moe and self.moe.dense_layers >= self.layers:
            raise ValueError(f"moe.dense_layers ({self.moe.dense_layers}) must be fewer than layers ({self.layers})")
        if self.sliding_window and self.sliding_window.layers > self.layers:
            raise ValueError(f"sliding_window.layers ({self.sliding_window.layers}) is over layers ({self.layers})")
        return self

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.moe.dense_layers if self.moe else 0

    @property
    def dense_layers(self) -> int:
        """Layers with one plain MLP."""
        return self.layers - self.moe_layers

    @property
    def global_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers - (self.sliding_window.layers if self.sliding_window else 0)


def holds_experts_only(model: ModelArchitecture, quantization: Quantization) -> bool:
    """Whether checkpoints of the model in that format quantise its routed experts and nothing else."""
    return quantization in EXPERTS_ONLY or quantization in model.experts_only


def model_names() -> tuple[str, ...]:
    """Names of the models of the catalogue, sorted."""
    return data_names(FOLDER)


def load_model(name_or_path: str) -> ModelArchitecture:
    """The architecture of a catalogue name or Hugging Face id, or of a Hugging Face `config.json` given by its path.

    A path is what has a separator or ends in `.json`, and is no id of the catalogue. Raises ProfileError: an unknown
    name (with the nearest one), a file that cannot be read, is too large or malformed, an unknown architecture.
    """
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(".json"):
        if name_or_path in _hugging_face_ids():
            return load_data(FOLDER, _hugging_face_ids()[name_or_path], ModelArchitecture)
        from profiles.hf_config import read_hf_config  # hf_config builds the classes above

        return read_hf_config(Path(name_or_path))
    return load_data(FOLDER, name_or_path, ModelArchitecture)


@lru_cache(maxsize=256)
def catalogue_digest(name: str) -> str:
    """The digest of a model of the catalogue; ProfileError for an unknown name."""
    return load_data(FOLDER, name, ModelArchitecture).digest


@lru_cache(maxsize=1)
def _hugging_face_ids() -> Mapping[str, str]:
    """Catalogue name of each Hugging Face id that the catalogue has."""
    models = (load_data(FOLDER, name, ModelArchitecture) for name in model_names())
    return {model.hf_id: model.name for model in models if model.hf_id}
