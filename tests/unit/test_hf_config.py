"""Architectures from a Hugging Face config.json: what is read, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from profiles.errors import ProfileError
from profiles.hf_config import READERS, read_hf_config
from profiles.models import ModelArchitecture, load_model
from profiles.parameters import parameter_count
from profiles.precision import Quantization

NOT_COMPARED = {"name", "hf_id", "gated", "experts_only", "parameters", "provenance", "extra_parameters_are"}
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN3_MOE = {
    **LLAMA,
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "sliding_window": None,
}
DEEPSEEK = {
    **LLAMA,
    "architectures": ["DeepseekV3ForCausalLM"],
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "first_k_dense_replace": 3,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "topk_method": "noaux_tc",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
GPT_OSS = {
    **LLAMA,
    "architectures": ["GptOssForCausalLM"],
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "head_dim": 64,
    "vocab_size": 201088,
    "attention_bias": True,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "quantization_config": {"quant_method": "mxfp4"},
}
GEMMA = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024},
    "torch_dtype": "bfloat16",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}
OPT = {
    "architectures": ["OPTForCausalLM"],
    "ffn_dim": 20480,
    "hidden_size": 5120,
    "max_position_embeddings": 2048,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "torch_dtype": "float16",
    "vocab_size": 50272,
    "word_embed_proj_dim": 5120,
}
MINIMAX = {
    **LLAMA,
    "architectures": ["MiniMaxM2ForCausalLM"],
    "hidden_size": 3072,
    "intermediate_size": 1536,
    "num_hidden_layers": 62,
    "num_attention_heads": 48,
    "head_dim": 128,
    "vocab_size": 200064,
    "max_position_embeddings": 196608,
    "num_local_experts": 256,
    "num_experts_per_tok": 8,
    "use_qk_norm": True,
    "use_routing_bias": True,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
XLM_ROBERTA = {
    "architectures": ["XLMRobertaModel"],
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "torch_dtype": "float16",
    "type_vocab_size": 1,
    "vocab_size": 250002,
}
QWEN2 = {
    **LLAMA,
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
MIXTRAL = {
    **LLAMA,
    "architectures": ["MixtralForCausalLM"],
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}


def written(folder: Path, values: object, name: str = "Some-Model-Instruct") -> Path:
    path = folder / name / "config.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def shape(model: ModelArchitecture) -> dict[str, object]:
    return model.model_dump(exclude=NOT_COMPARED)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("llama-3.1-8b", LLAMA),
        ("qwen3-30b-a3b", QWEN3_MOE),
        ("deepseek-r1", DEEPSEEK),
        ("gpt-oss-20b", GPT_OSS),
        ("gemma-3-4b", GEMMA),
        ("opt-13b", OPT),
        ("minimax-m2.5", MINIMAX),
        ("bge-m3", XLM_ROBERTA),
        ("qwen2.5-7b", QWEN2),
        ("mixtral-8x7b", MIXTRAL),
    ],
)
def test_a_config_gives_the_catalogue_s_architecture(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    read = load_model(str(written(tmp_path, values)))
    assert shape(read) == shape(load_model(name))
    assert parameter_count(read) == parameter_count(load_model(name))


def test_the_name_is_that_of_the_folder(tmp_path: Path) -> None:
    assert read_hf_config(written(tmp_path, LLAMA)).name == "some-model"


def test_mistral_with_a_window_on_all_layers(tmp_path: Path) -> None:
    values = {**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
    window = read_hf_config(written(tmp_path, values)).sliding_window
    assert window is not None and (window.window_tokens, window.layers) == (4096, 32)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "fp8"}, Quantization.FP8),
        ({"quant_method": "awq", "bits": 4}, Quantization.AWQ),
        ({"quant_method": "gptq", "bits": 4}, Quantization.GPTQ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, Quantization.NVFP4),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
            },
            Quantization.FP8,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            Quantization.INT4,
        ),
    ],
)
def test_quantisation_is_read(quantization: dict[str, Any], expected: Quantization, tmp_path: Path) -> None:
    model = read_hf_config(written(tmp_path, {**LLAMA, "quantization_config": quantization}))
    assert model.dtype is expected


def test_an_unsaid_dtype_is_bf16_and_a_strange_one_is_refused(tmp_path: Path) -> None:
    assert read_hf_config(written(tmp_path, {**LLAMA, "torch_dtype": None})).dtype is Quantization.BF16
    assert read_hf_config(written(tmp_path, {**LLAMA, "torch_dtype": "float32"})).dtype is Quantization.FP32
    with pytest.raises(ProfileError, match="torch_dtype names 'float31'"):
        read_hf_config(written(tmp_path, {**LLAMA, "torch_dtype": "float31"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "'MambaForCausalLM', which is not known; known are LlamaForCausalLM"),
        ({"architectures": []}, "architectures is missing"),
        ({"architectures": "LlamaForCausalLM"}, "architectures must be a list of texts"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"hidden_size": "4096"}, "hidden_size must be a positive whole number, not '4096'"),
        ({"hidden_size": True}, "hidden_size must be a positive whole number"),
        ({"vocab_size": -1}, "vocab_size must be a positive whole number"),
        ({"vocab_size": 10**60}, "vocab_size must be a positive whole number"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a positive whole number"),
        ({"num_key_value_heads": 5}, "heads .32. is no multiple of kv_heads .5."),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"quantization_config": []}, "quantization_config must be a mapping"),
        ({"quantization_config": {"quant_method": "aqlm"}}, r"quantization_config\.quant_method names 'aqlm'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "bits is 3"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]}}, r"is \[64, 64\]"),
    ],
)
def test_faults_name_the_file_and_the_key(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**LLAMA, **change})
    with pytest.raises(ProfileError, match=says) as caught:
        read_hf_config(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "is not valid JSON"),
        (b'{"hidden_size": 4', "is not valid JSON"),
        (b"[1, 2]", "must hold a JSON object"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[" * 200_000, "is not valid JSON"),
        (b" " * 10_000_000, "is over 5 MB"),
    ],
)
def test_files_that_are_no_config_are_refused(payload: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(payload)
    with pytest.raises(ProfileError, match=says):
        read_hf_config(path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read"):
        read_hf_config(tmp_path)


def test_every_reader_asks_for_its_keys(tmp_path: Path) -> None:
    for architecture in READERS:
        path = written(tmp_path, {"architectures": [architecture]})
        with pytest.raises(ProfileError, match="is missing"):
            read_hf_config(path)
