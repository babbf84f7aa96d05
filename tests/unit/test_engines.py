"""Engines as data."""

from importlib import resources
from pathlib import Path

import pytest

from profiles.engines import Engine, StepTerms, TermValues, engine_names, load_engine
from profiles.errors import ProfileError
from profiles.gpus import load_gpu
from profiles.models import load_model
from profiles.precision import Quantization


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


def terms_of(engine: Engine, gpu: str, model: str, quantization: Quantization) -> TermValues:
    return engine.terms_for(load_gpu(gpu), load_model(model), quantization)


def test_step_terms_are_those_of_the_first_entry_that_holds() -> None:
    common = StepTerms(overhead_s=1e-3, prefill_factor=1.0, prefill_floor_s_per_layer=0.0)
    own = {"model": "llama-3.1-70b", "quantizations": (Quantization.FP8,), "generations": ("hopper",)}
    special = StepTerms.model_validate({**common.model_dump(), **own, "overhead_s": 2e-3})
    engine = load_engine("vllm").model_copy(update={"step_terms": (special, common)})
    assert terms_of(engine, "h200-sxm-141gb", "llama-3.1-70b", Quantization.FP8) is special
    assert terms_of(engine, "h100-sxm-80gb", "llama-3.3-70b", Quantization.FP8) is special, "the same architecture"
    for gpu, model, quantization in (
        ("b200-sxm-180gb", "llama-3.1-70b", Quantization.FP8),
        ("h100-sxm-80gb", "qwen2.5-72b", Quantization.FP8),
        ("h100-sxm-80gb", "llama-3.1-70b", Quantization.BF16),
    ):
        assert terms_of(engine, gpu, model, quantization) is common


def test_the_terms_of_measured_deployments_say_how_well_they_explain_them() -> None:
    *measured, common = load_engine("vllm").step_terms
    assert len(measured) >= 6
    for terms in measured:
        assert terms.model and terms.generations and terms.quantizations and terms.fit
        assert terms.fit.tpot_median_error_fraction <= 0.06 and terms.fit.ttft_median_error_fraction <= 0.15
    assert common.model is None and not common.generations and common.fit
    assert common.fit.runs > 500 and common.fit.deployments > len(measured)
    assert common.fit.tpot_median_error_fraction <= 0.10 and common.fit.ttft_median_error_fraction <= 0.25


def test_every_engine_loads_under_its_name() -> None:
    assert all(load_engine(name).name == name for name in engine_names())


def test_another_engine_is_only_a_file(tmp_path: Path) -> None:
    text = resources.files("profiles").joinpath("data", "engines", "vllm.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: vllm", "name: mine").replace("block_tokens: 16", "block_tokens: 32"))
    engine = load_engine(str(path))
    assert (engine.name, engine.block_tokens) == ("mine", 32)


def test_an_engine_without_terms_for_a_deployment_says_so() -> None:
    engine = load_engine("vllm")
    engine = engine.model_copy(update={"step_terms": engine.step_terms[:-1]})
    with pytest.raises(ProfileError, match="no step_terms for 'mixtral-8x7b' in bf16 on 'h100-sxm-80gb'"):
        terms_of(engine, "h100-sxm-80gb", "mixtral-8x7b", Quantization.BF16)


def test_an_unknown_engine_suggests_the_nearest() -> None:
    with pytest.raises(ProfileError, match="Maybe you meant 'vllm'"):
        load_engine("vlm")


def test_engines_that_are_not_deployed_keep_their_own_rules() -> None:
    sglang, trtllm, vllm = (load_engine(name) for name in ("sglang", "trtllm", "vllm"))
    assert sglang.prompts_apart and sglang.chunked_prefill and not sglang.reserves_output
    assert trtllm.reserves_output and not trtllm.chunked_prefill and not trtllm.prompts_apart
    assert not (vllm.prompts_apart or vllm.reserves_output) and vllm.chunked_prefill
    assert not (sglang.deployable_kinds or trtllm.deployable_kinds) and vllm.deployable_kinds
    assert sglang.limits_for(load_gpu("b200-sxm-180gb")).max_num_batched_tokens == 16384
    assert sglang.limits_for(load_gpu("l4-24gb")).max_num_batched_tokens == 2048


def test_an_engine_without_terms_says_what_to_do() -> None:
    with pytest.raises(ProfileError, match=r"no step_terms: .* muxplan profile engine .*another engine"):
        terms_of(load_engine("vllm-cpu"), "h100-sxm-80gb", "llama-3.1-8b", Quantization.BF16)
