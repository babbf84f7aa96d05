"""Engines that muxplan does not deploy: what estimates, plans and exports of them say."""

import json

import pytest

from planner import cli
from planner.export.launch import ExportError, launches_of
from planner.plan_check import check_plan
from tests.spec_fixtures import model, plan, spec

ESTIMATE = ("estimate", "--model", "llama-3.1-8b", "--gpu", "h100-sxm-80gb", "--input", "512", "--output", "64")
LOAD = ("--concurrency", "8")


def test_estimates_differ_by_engine(capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for engine in ("vllm", "sglang", "trtllm"):
        assert cli.main([*ESTIMATE, *LOAD, "--engine", engine, "--json"]) == 0
        found[engine] = json.loads(capsys.readouterr().out)
    assert len({(one["ttft_ms"]["mean"], one["tpot_ms"]["mean"]) for one in found.values()}) == 3
    assert "engine terms of sglang 0.5.9" in " ".join(found["sglang"]["assumptions"])
    assert len({one["kv_tokens"] for one in found.values()}) == 3


def test_a_prompt_longer_than_a_step_of_an_engine_that_cuts_none_is_taken_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["estimate", "--model", "llama-3.1-8b", "--gpu", "h100-sxm-80gb", "--engine", "trtllm", *LOAD]
    assert cli.main([*command, "--input", "20000", "--output", "8", "--json"]) == 0
    assert "max_num_batched_tokens 20000" in " ".join(json.loads(capsys.readouterr().out)["assumptions"])
    assert cli.main([*command, "--input", "20000", "--output", "8", "--max-num-batched-tokens", "8192"]) == 2
    assert "trtllm is an engine, whose prompts are not cut" in capsys.readouterr().err


def test_an_engine_known_by_measurement_only_is_refused_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*ESTIMATE, *LOAD, "--engine", "vllm-cpu"]) == 2
    told = capsys.readouterr().err
    assert "its steps are known by measurement only" in told and "muxplan profile engine" in told


def test_a_plan_is_a_what_if_and_is_not_exported() -> None:
    found = plan(spec(engine="sglang"))
    assert found.groups and check_plan(found) == []
    assert any("a what-if: plans for sglang" in line for line in found.assumptions)
    with pytest.raises(ExportError, match="for the engine sglang: only vllm is exported"):
        launches_of(found)


def test_where_prompts_are_not_cut_the_longest_one_must_fit_a_planned_step() -> None:
    assert plan(spec(engine="trtllm")).groups
    found = plan(spec(engine="trtllm", models=[model(max_model_len=16384)]))
    assert not found.groups
    assert "runs on trtllm, whose prompts are not cut" in found.model_dump_json()
