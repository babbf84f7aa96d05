"""Architectures read from a Hugging Face `config.json`."""

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from profiles.catalogue_files import Provenance, checked
from profiles.config_file import ConfigFile, native_format, read_config_file
from profiles.models import ModelArchitecture

OPT_POSITION_OFFSET = 2

Fields = dict[str, Any]


def _llama(config: ConfigFile) -> Fields:
    """Llama, Mistral and what shares their keys: grouped-query attention, gated MLP, RMS norms."""
    heads = config.integer("num_attention_heads")
    hidden = config.integer("hidden_size")
    fields: Fields = {
        "layers": config.integer("num_hidden_layers"),
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": config.integer("num_key_value_heads", default=heads),
        "head_dim": config.integer("head_dim", default=max(1, hidden // heads)),
        "intermediate_size": config.integer("intermediate_size"),
        "vocab_size": config.integer("vocab_size"),
        "max_position_embeddings": config.integer("max_position_embeddings"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", False),
    }
    bias = config.flag("attention_bias", False)
    return {
        **fields,
        "attention_bias": bias,
        "attention_output_bias": bias,
        "mlp_bias": config.flag("mlp_bias", False),
        **_window(config, fields["layers"]),
    }


def _window(config: ConfigFile, layers: int) -> Fields:
    """The sliding window of a model that has one: on the layers that `layer_types` names, else on all."""
    if config.values.get("sliding_window") is None or not config.flag("use_sliding_window", True):
        return {}
    named = config.texts("layer_types")
    windowed = sum("sliding" in name for name in named) if named else layers
    if not windowed:
        return {}
    return {"sliding_window": {"window_tokens": config.integer("sliding_window"), "layers": windowed}}


def _mixtral(config: ConfigFile) -> Fields:
    experts = {
        "experts": config.integer("num_local_experts"),
        "experts_per_token": config.integer("num_experts_per_tok"),
        "expert_intermediate_size": config.integer("intermediate_size"),
    }
    return {**_llama(config), "moe": experts}


def _qwen2(config: ConfigFile) -> Fields:
    return {**_llama(config), "attention_bias": True, "attention_output_bias": False}


def _qwen3(config: ConfigFile) -> Fields:
    return {**_llama(config), "qk_norm": "head"}


def _qwen3_moe(config: ConfigFile) -> Fields:
    if config.integer("decoder_sparse_step", default=1) != 1 or config.values.get("mlp_only_layers"):
        raise config.fault("decoder_sparse_step", "and mlp_only_layers other than 1 and [] are not known")
    experts = {
        "experts": config.integer("num_experts"),
        "experts_per_token": config.integer("num_experts_per_tok"),
        "expert_intermediate_size": config.integer("moe_intermediate_size"),
        "shared_intermediate_size": config.count("shared_expert_intermediate_size"),
    }
    return {**_qwen3(config), "moe": experts}


def _deepseek(config: ConfigFile) -> Fields:
    inner = config.integer("moe_intermediate_size")
    nope, rope = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    latent = {
        "q_lora_rank": None if config.values.get("q_lora_rank") is None else config.integer("q_lora_rank"),
        "kv_lora_rank": config.integer("kv_lora_rank"),
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": config.integer("v_head_dim"),
    }
    experts = {
        "experts": config.integer("n_routed_experts"),
        "experts_per_token": config.integer("num_experts_per_tok"),
        "expert_intermediate_size": inner,
        "shared_intermediate_size": inner * config.count("n_shared_experts"),
        "dense_layers": config.count("first_k_dense_replace"),
        "router_bias": config.text("topk_method") == "noaux_tc",
    }
    return {**_llama(config), "head_dim": nope + rope, "attention": "mla", "mla": latent, "moe": experts}


def _gpt_oss(config: ConfigFile) -> Fields:
    """gpt-oss: every second layer, the first included, has the window, unless `layer_types` says otherwise."""
    fields = _mixtral(config)
    if not config.texts("layer_types"):
        layers = (fields["layers"] + 1) // 2
        fields["sliding_window"] = {"window_tokens": config.integer("sliding_window"), "layers": layers}
    experts = {**fields["moe"], "router_bias": True, "expert_bias": True}
    return {**fields, "moe": experts, "attention_sinks": True}


GEMMA3_DEFAULTS = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208}
GEMMA3_PATTERN = 6


def _gemma3(config: ConfigFile) -> Fields:
    """Gemma 3, its text part: config.json leaves out what equals the defaults of the Transformers library."""
    text = config.part("text_config") if "text_config" in config.values else config
    values = {**GEMMA3_DEFAULTS, "max_position_embeddings": 131_072, "tie_word_embeddings": True, **text.values}
    text = ConfigFile(config.path, values, text.prefix)
    fields = _llama(text)
    named = text.texts("layer_types")
    pattern = text.integer("sliding_window_pattern", default=GEMMA3_PATTERN)
    windowed = sum("sliding" in name for name in named) if named else fields["layers"] - fields["layers"] // pattern
    window = {"window_tokens": text.integer("sliding_window", default=1024), "layers": windowed}
    return {**fields, "qk_norm": "head", "norms_per_layer": 4, "sliding_window": window, **_vision(config, fields)}


def _vision(config: ConfigFile, fields: Fields) -> Fields:
    """Parameters of the SigLIP tower and of the projector beside a Gemma 3 text model."""
    vision = config.part("vision_config")
    if not vision.values:
        return {}
    width, inner = vision.integer("hidden_size"), vision.integer("intermediate_size")
    patch, image = vision.integer("patch_size"), vision.integer("image_size")
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    positions = (image // patch) ** 2
    tower = vision.integer("num_hidden_layers") * layer + (3 * patch * patch + 1 + positions + 2) * width
    projector = width * fields["hidden_size"] + width
    return {"extra_parameters": tower + projector, "extra_parameters_are": "vision tower and multimodal projector"}


def _opt(config: ConfigFile) -> Fields:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if config.integer("word_embed_proj_dim", default=hidden) != hidden:
        raise config.fault("word_embed_proj_dim", "other than hidden_size is not known")
    positions = config.integer("max_position_embeddings")
    return {
        "layers": config.integer("num_hidden_layers"),
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": max(1, hidden // heads),
        "intermediate_size": config.integer("ffn_dim"),
        "vocab_size": config.integer("vocab_size"),
        "max_position_embeddings": positions,
        "gated_mlp": False,
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
        "learned_positions": True,
        "position_rows": positions + OPT_POSITION_OFFSET,
        **_biased(),
    }


def _xlm_roberta(config: ConfigFile) -> Fields:
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    rows = config.integer("max_position_embeddings")
    types = config.integer("type_vocab_size", default=1)
    return {
        "kind": "embed",
        "encoder_only": True,
        "layers": config.integer("num_hidden_layers"),
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": max(1, hidden // heads),
        "intermediate_size": config.integer("intermediate_size"),
        "vocab_size": config.integer("vocab_size"),
        "max_position_embeddings": max(1, rows - OPT_POSITION_OFFSET),
        "gated_mlp": False,
        "tie_word_embeddings": True,
        "learned_positions": True,
        "position_rows": rows,
        "embedding_norm": True,
        "final_norm": False,
        "extra_parameters": types * hidden + hidden * hidden + hidden,
        "extra_parameters_are": "token type rows and pooler",
        **_biased(),
    }


def _biased() -> Fields:
    return {"attention_bias": True, "attention_output_bias": True, "mlp_bias": True, "norm_bias": True}


def _minimax_m2(config: ConfigFile) -> Fields:
    mixture = _mixtral(config)
    experts = {**mixture["moe"], "router_bias": config.flag("use_routing_bias", False)}
    normed = "full" if config.flag("use_qk_norm", False) else "none"
    return {**mixture, "moe": experts, "qk_norm": normed}


READERS: Mapping[str, Callable[[ConfigFile], Fields]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _llama,
    "MixtralForCausalLM": _mixtral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "DeepseekV3ForCausalLM": _deepseek,
    "Gemma3ForCausalLM": _gemma3,
    "Gemma3ForConditionalGeneration": _gemma3,
    "GptOssForCausalLM": _gpt_oss,
    "MiniMaxM2ForCausalLM": _minimax_m2,
    "OPTForCausalLM": _opt,
    "XLMRobertaModel": _xlm_roberta,
}


def read_hf_config(path: Path) -> ModelArchitecture:
    """The architecture a `config.json` describes; its name is the folder's name in lower case.

    Raises ProfileError that names the file and the key: unreadable, over 5 MB, no JSON object, an architecture that is
    not known (with the list of known ones), a key missing or of the wrong type.
    """
    config = read_config_file(path)
    names = config.texts("architectures")
    if not names:
        raise config.fault("architectures", "is missing: it must name the model's class")
    reader = READERS.get(names[0])
    if reader is None:
        known = ", ".join(READERS)
        raise config.fault("architectures", f"names {names[0]!r}, which is not known; known are {known}")
    fields = {"name": _name(path), "dtype": native_format(config), **reader(config)}
    fields["provenance"] = Provenance(source=str(path), date=_written_on(path))
    return checked(fields, ModelArchitecture, str(path))


def _name(path: Path) -> str:
    folder = path.absolute().parent.name.lower()
    return folder.removesuffix("-instruct") or path.stem.lower()


def _written_on(path: Path) -> datetime.date:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, tz=datetime.UTC).date()
