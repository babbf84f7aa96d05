"""The catalogue of models and its loader."""

import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from profiles.errors import ProfileError
from profiles.models import ModelArchitecture, load_model, model_names
from profiles.precision import Quantization


def test_a_name_is_loaded_with_its_source() -> None:
    model = load_model("qwen3-30b-a3b")
    assert (model.layers, model.kv_heads, model.moe_layers, model.dense_layers) == (48, 4, 48, 0)
    assert model.provenance.source.startswith("https://huggingface.co/Qwen/Qwen3-30B-A3B")
    assert model.provenance.date >= datetime.date(2026, 1, 1)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ProfileError, match=r"Maybe you meant 'llama-3\.1-8b'"):
        load_model("llama3.1-8b")


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "config.json"
    with pytest.raises(ProfileError, match=f"{missing} cannot be read"):
        load_model(str(missing))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("deepseek-r1", Quantization.FP8_BLOCK),
        ("minimax-m2.5", Quantization.FP8_BLOCK),
        ("gpt-oss-120b", Quantization.MXFP4),
        ("opt-66b", Quantization.FP16),
        ("llama-3.3-70b", Quantization.BF16),
    ],
)
def test_native_formats(name: str, dtype: Quantization) -> None:
    assert load_model(name).dtype is dtype


def test_the_catalogue_has_generation_embedding_latent_and_windowed_models() -> None:
    models = [load_model(name) for name in model_names()]
    assert {m.kind for m in models} == {"generate", "embed"}
    assert {m.attention for m in models} == {"gqa", "mla"}
    assert any(m.sliding_window for m in models) and any(m.learned_positions for m in models)


def test_leading_dense_layers_and_windows_are_counted() -> None:
    assert (load_model("deepseek-v3").dense_layers, load_model("deepseek-v3").moe_layers) == (3, 58)
    assert load_model("gemma-3-27b").global_layers == 10
    assert load_model("gpt-oss-20b").global_layers == 12


@pytest.mark.parametrize(
    "change",
    [
        {"kv_heads": 5},
        {"layers": 0},
        {"attention": "mla"},
        {"learned_positions": True},
        {"moe": {"experts": 4, "experts_per_token": 8, "expert_intermediate_size": 8}},
        {"moe": {"experts": 4, "experts_per_token": 2, "expert_intermediate_size": 8, "dense_layers": 32}},
        {"sliding_window": {"window_tokens": 128, "layers": 33}},
        {"colour": "blue"},
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object]) -> None:
    good = load_model("llama-3.1-8b").model_dump()
    ModelArchitecture.model_validate(good)
    with pytest.raises(ValidationError):
        ModelArchitecture.model_validate({**good, **change})
