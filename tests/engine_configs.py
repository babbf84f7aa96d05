"""config.json files of catalogue models, enough for vLLM's configuration checks (which read no weights)."""

import json
from pathlib import Path
from typing import Any

from profiles.models import ModelArchitecture

FAMILIES = {
    "bge-m3": ("XLMRobertaModel", "xlm-roberta"),
    "qwen3-30b-a3b": ("Qwen3MoeForCausalLM", "qwen3_moe"),
    "qwen3": ("Qwen3ForCausalLM", "qwen3"),
    "llama": ("LlamaForCausalLM", "llama"),
}


def write_config(model: ModelArchitecture, folder: Path) -> Path:
    """The folder, with the model's config.json in it."""
    folder.mkdir(parents=True)
    architecture, kind = next(family for start, family in FAMILIES.items() if model.name.startswith(start))
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "num_hidden_layers": model.layers,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings,
        "torch_dtype": "float16" if model.dtype == "fp16" else "bfloat16",
    }
    if model.moe is not None:
        config |= {"num_experts": model.moe.experts, "num_experts_per_tok": model.moe.experts_per_token}
        config |= {"moe_intermediate_size": model.moe.expert_intermediate_size}
    if model.encoder_only:
        # RoBERTa's positions start behind its padding token.
        config |= {"max_position_embeddings": model.max_position_embeddings + 2, "pad_token_id": 1}
        config |= {"type_vocab_size": 1, "position_embedding_type": "absolute", "hidden_act": "gelu"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
