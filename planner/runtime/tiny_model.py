"""Tiny models with random weights, made on this machine from the shape of a real one: what an engine can really load
where the real model does not fit.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from planner.files import OutputError, atomic_write_text
from planner.runtime.environment import EngineEnvironment
from planner.runtime.errors import EngineError
from profiles.models import ModelArchitecture

MAKER = Path(__file__).parent / "in_engine" / "make_tiny.py"
HEAD_DIM = 64
ROUND = 16
MAKE_S = 600.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def tiny_config(model: ModelArchitecture, *, layers: int, hidden: int, vocabulary: int, length: int) -> dict[str, Any]:
    """A `config.json` of the model's family and proportions (heads to KV heads, hidden to MLP), scaled down.

    EngineError for families that it cannot write: only dense decoders like Llama's and Qwen3's.
    """
    if model.moe or model.mla or model.encoder_only or model.learned_positions or model.sliding_window:
        raise EngineError(f"{model.name} cannot be scaled down: only dense decoders like Llama and Qwen3 can.")
    if hidden % HEAD_DIM:
        raise EngineError(f"hidden size {hidden} is no multiple of {HEAD_DIM}, the size of a head.")
    heads = hidden // HEAD_DIM
    family = ("Qwen3ForCausalLM", "qwen3") if model.qk_norm == "head" else ("LlamaForCausalLM", "llama")
    inner = hidden * model.intermediate_size / model.hidden_size
    return {
        "architectures": [family[0]],
        "model_type": family[1],
        "hidden_size": hidden,
        "intermediate_size": max(ROUND, round(inner / ROUND) * ROUND),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads * model.kv_heads // model.heads),
        "head_dim": HEAD_DIM,
        "vocab_size": vocabulary,
        "hidden_act": "silu",
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": model.attention_bias,
        "tie_word_embeddings": model.tie_word_embeddings,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
        "initializer_range": 0.02,
    }


def make_tiny_model(config: dict[str, Any], folder: Path, environment: EngineEnvironment) -> None:
    """Write config, weights and tokenizer to a folder that is new or empty. EngineError when the engine's Python cannot
    make them.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there already: name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    try:
        done = subprocess.run(
            [environment.python, MAKER, folder],
            capture_output=True,
            text=True,
            timeout=MAKE_S,
            env=OFFLINE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{folder} cannot be filled by {environment.python}: {error}.") from error
    if done.returncode:
        raise EngineError(f"{folder} cannot be filled by {environment.python}: {done.stderr.strip()[-300:]}.")
