"""Engines as data."""

from importlib import resources
from pathlib import Path

import pytest

from profiles.engines import engine_names, load_engine
from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from profiles.models import load_model


@pytest.mark.parametrize(
    ("gpu", "sequences", "tokens"),
    [
        ("h100-sxm-80gb", 1024, 8192),
        ("a100-sxm-80gb", 256, 2048),
        ("l40s-48gb", 256, 2048),
        ("b200-sxm-180gb", 1024, 8192),
    ],
)
def test_batch_limits_are_those_of_the_engine_on_that_gpu(gpu: str, sequences: int, tokens: int) -> None:
    limits = load_engine("vllm").limits_for(load_gpu(gpu))
    assert (limits.max_num_seqs, limits.max_num_batched_tokens) == (sequences, tokens)


@pytest.mark.parametrize(
    ("gpu", "model", "overhead_s"),
    [
        ("h100-sxm-80gb", "llama-3.1-8b", 1.1e-3),
        ("a100-sxm-80gb", "llama-3.1-8b", 1.1e-3),
        ("b200-sxm-180gb", "llama-3.1-8b", 0.7e-3),
        ("b200-sxm-180gb", "mixtral-8x7b", 1.3e-3),
    ],
)
def test_step_terms_follow_generation_and_family(gpu: str, model: str, overhead_s: float) -> None:
    assert load_engine("vllm").terms_for(load_gpu(gpu), load_model(model)).overhead_s == overhead_s


def test_every_engine_loads_under_its_name() -> None:
    assert all(load_engine(name).name == name for name in engine_names())


def test_another_engine_is_only_a_file(tmp_path: Path) -> None:
    text = resources.files("profiles").joinpath("data", "engines", "vllm.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: vllm", "name: mine").replace("block_tokens: 16", "block_tokens: 32"))
    engine = load_engine(str(path))
    assert (engine.name, engine.block_tokens) == ("mine", 32)


def test_an_engine_without_terms_for_a_family_says_so(tmp_path: Path) -> None:
    text = resources.files("profiles").joinpath("data", "engines", "vllm.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join(line for line in text.splitlines() if "family: moe" not in line))
    engine = load_engine(str(path))
    with pytest.raises(ProfileError, match="no step_terms for moe"):
        engine.terms_for(load_gpu("h100-sxm-80gb"), load_model("mixtral-8x7b"))


def test_an_unknown_engine_suggests_the_nearest() -> None:
    with pytest.raises(ProfileError, match="Maybe you meant 'vllm'"):
        load_engine("vlm")
