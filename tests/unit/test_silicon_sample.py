"""Published runs: which rows are in scope, and how their labels are read."""

import csv
from pathlib import Path

import pytest

from planner.cli import main
from planner.estimate import Estimator
from planner.fit_engine import by_deployment, common_terms, fit_alone, fold_of, spread_of, step_terms, without
from planner.measured_runs import RunsError
from planner.silicon_sample import SampleRun, read_sample
from profiles.engines import TermValues, load_engine

ROW = {
    "id": "a",
    "backend": "vllm",
    "backend_version": "0.19.0",
    "model_path": "MiniMaxAI/MiniMax-M2.5",
    "system": "b200_sxm",
    "precision": "fp4",
    "mode": "agg",
    "isl": "1024.0",
    "osl": "1024.0",
    "tp_size": "4.0",
    "pp_size": "1.0",
    "attention_dp_size": "1.0",
    "moe_tp_size": "4.0",
    "moe_ep_size": "1.0",
    "concurrency": "4.0",
    "silicon_ttft_ms": "60",
    "silicon_tpot_ms": "8",
}


def read(folder: Path, *changes: dict[str, str], engine: str = "vllm") -> list[SampleRun]:
    """What is read of rows that differ from ROW so."""
    path = folder / "sample.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ROW)
        writer.writeheader()
        writer.writerows([ROW | change for change in changes])
    return read_sample(path, engine)


def test_a_row_becomes_the_load_that_was_run(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {})
    question = one.run.question
    assert (question.model, question.gpu, question.quantization) == ("minimax-m2.5", "b200-sxm-180gb", "nvfp4")
    assert (question.input_tokens, question.output_tokens, question.concurrency) == (1024, 1024, 4)
    assert question.length_low_fraction == 0.8 and question.start == "burst" and question.num_requests is None
    assert (one.run.ttft_ms, one.run.tpot_ms) == (60.0, 8.0)
    assert one.deployment.version == "0.19.0" and not one.kv_bound


@pytest.mark.parametrize(
    ("labels", "ranks"),
    [
        ({}, (4, 1)),
        ({"moe_tp_size": "1.0", "moe_ep_size": "4.0"}, (4, 4)),
        ({"tp_size": "1.0", "attention_dp_size": ""}, (4, 1)),
        ({"tp_size": "2.0", "attention_dp_size": "2.0", "moe_tp_size": "1.0", "moe_ep_size": "4.0"}, (2, 2)),
        ({"tp_size": "16.0", "moe_tp_size": "4.0", "moe_ep_size": "4.0"}, (4, 4)),
        ({"tp_size": "2.0", "attention_dp_size": "", "moe_tp_size": "", "moe_ep_size": ""}, (2, 1)),
    ],
)
def test_parallelism_is_read_as_it_was_run(labels: dict[str, str], ranks: tuple[int, int], tmp_path: Path) -> None:
    (one,) = read(tmp_path, labels)
    assert (one.run.question.tp, one.run.question.ep) == ranks


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "sglang"},
        {"mode": "disagg"},
        {"tp_size": ""},
        {"system": "b300_sxm"},
        {"isl": "2000", "osl": "100"},
        {"model_path": "who/knows"},
    ],
)
def test_other_rows_are_left_out(change: dict[str, str], tmp_path: Path) -> None:
    assert [one.run.where.split()[-1] for one in read(tmp_path, change, {"id": "b"})] == ["b"]


DEEPSEEK = {"model_path": "deepseek-ai/DeepSeek-V3", "backend": "sglang", "precision": "fp8", "tp_size": "8.0"}
DEEPSEEK |= {"moe_tp_size": "8.0"}


def test_runs_of_deepseek_count_once_and_those_of_r1_alone_speculated(tmp_path: Path) -> None:
    again = DEEPSEEK | {"model_path": "deepseek-ai/DeepSeek-R1", "id": "b"}
    relabelled = again | {"tp_size": "64.0", "moe_ep_size": "8.0", "id": "c"}
    quicker = again | {"silicon_tpot_ms": "5", "id": "d"}
    found = read(tmp_path, again, relabelled, quicker, DEEPSEEK, engine="sglang")
    assert [(one.run.where.split()[-1], one.speculated) for one in found] == [("a", False), ("d", True)]
    (twice, _) = read(tmp_path, {}, {"id": "b"})
    assert not twice.speculated and twice.plain, "other models have no twins"


def test_runs_of_sglang_without_a_version_started_cold(tmp_path: Path) -> None:
    first = DEEPSEEK | {"backend_version": ""}
    cold, plain = read(tmp_path, first, DEEPSEEK | {"silicon_ttft_ms": "70"}, engine="sglang")
    assert cold.cold and not cold.plain and plain.plain


def test_an_engine_s_rows_are_launched_as_its_scripts_do(tmp_path: Path) -> None:
    busy = DEEPSEEK | {"concurrency": "16", "silicon_ttft_ms": "70"}
    few, many = (one.run.question for one in read(tmp_path, DEEPSEEK, busy, engine="sglang"))
    assert (few.engine, few.max_num_batched_tokens, few.poll_steps, many.poll_steps) == ("sglang", 32768, 10, 30)
    whole = DEEPSEEK | {"backend": "trtllm", "precision": "fp4"}
    dense = whole | {"model_path": "meta-llama/Llama-3.1-70B", "tp_size": "4.0", "moe_tp_size": "4.0"}
    apart = whole | {"tp_size": "1.0", "attention_dp_size": "64.0", "moe_ep_size": "8.0", "silicon_ttft_ms": "70"}
    one, other, ranks = (run.run.question for run in read(tmp_path, whole, dense, apart, engine="trtllm"))
    assert (one.max_num_batched_tokens, one.wait_steps) == (1152, 0)
    assert (other.max_num_batched_tokens, other.wait_steps, other.wait_fraction) == (16384, 20, 0.9)
    assert (ranks.tp, ranks.attention_dp, ranks.ep) == (1, 8, 8)


def test_fp8_is_block_scaled_where_the_checkpoint_is(tmp_path: Path) -> None:
    mixed, dense = read(tmp_path, {"precision": "fp8"}, {"precision": "fp8", "model_path": "meta-llama/Llama-3.1-70B"})
    assert (mixed.run.question.quantization, dense.run.question.quantization) == ("fp8_block", "fp8")


def test_a_ttft_far_over_its_like_is_a_queue_for_memory(tmp_path: Path) -> None:
    others = [{"concurrency": str(c)} for c in (4, 8, 16)]
    *quick, slow = read(tmp_path, *others, {"concurrency": "64", "silicon_ttft_ms": "400"})
    assert slow.kv_bound and not any(one.kv_bound for one in quick)
    (elsewhere,) = read(tmp_path, {"isl": "8192", "silicon_ttft_ms": "400"})
    assert not elsewhere.kv_bound


def test_a_file_that_is_no_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(RunsError, match="is not a silicon_sample"):
        read_sample(path)
    with pytest.raises(RunsError, match="cannot be read"):
        read_sample(tmp_path / "none.csv")
    with pytest.raises(RunsError, match="cannot be read"):
        read_sample(written_text(tmp_path / "none.csv.gz"))


def written_text(path: Path) -> Path:
    path.write_text("no gzip", encoding="utf-8")
    return path


def test_terms_of_deployments_become_the_entries_of_an_engine_s_file(tmp_path: Path) -> None:
    old = {"backend_version": "0.17.0"}
    hopper = {"system": "h200_sxm", "precision": "fp8", "silicon_tpot_ms": "14"}
    dense = {"model_path": "meta-llama/Llama-3.1-70B", "system": "h200_sxm", "precision": "fp8"}
    queued = {"concurrency": "8", "silicon_ttft_ms": "6000"}
    samples = read(tmp_path, {}, old, queued, hopper, hopper | old, dense)
    runs = by_deployment(samples, Estimator())
    told: list[str] = []
    fits = fit_alone(runs, told.append)
    assert len(fits) == len(told) == 5, "the queue for memory is no run to fit on, and versions are apart"
    *own, common = step_terms(runs, fits)
    assert [(t.model, t.generations, t.quantizations) for t in own] == [
        ("llama-3.1-70b", ("hopper",), ("fp8",)),
        ("minimax-m2.5", ("blackwell",), ("nvfp4",)),
        ("minimax-m2.5", ("hopper",), ("fp8_block",)),
    ]
    newest = next(terms for d, terms in fits.items() if (d.version, d.precision) == ("0.19.0", "fp4"))
    assert own[1].overhead_s == newest.overhead_s
    assert common.model is None and common.fit is not None
    mixtures = {deployment: some for deployment, some in runs.items() if deployment.model == "minimax-m2.5"}
    assert len({fold_of(mixtures)(deployment) for deployment in mixtures}) == 2, "H200 fp8 and B200 fp4"
    single = {deployment: some for deployment, some in mixtures.items() if deployment.precision == "fp4"}
    with pytest.raises(RunsError, match="at least two"):
        step_terms(single, fits)


def test_common_terms_are_medians_and_the_spread_is_between_deployments(tmp_path: Path) -> None:
    deployments = [one.deployment for one in read(tmp_path, {}, {"system": "h100_sxm"}, {"precision": "fp8"})]
    terms = [
        TermValues(overhead_s=x, prefill_factor=1 + x, prefill_floor_s_per_layer=2 * x) for x in (0.001, 0.002, 0.009)
    ]
    fits = dict(zip(deployments, terms, strict=True))
    assert common_terms(list(fits.values())).overhead_s == 0.002
    spread = spread_of(terms)
    assert spread.overhead_s == pytest.approx(0.004359, abs=1e-6) and spread.prefill_factor == pytest.approx(0.0044)
    assert without(fits, lambda d: d.gpu, "b200-sxm-180gb") == [terms[1]]


def test_the_command_writes_an_engine_s_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense = {"model_path": "meta-llama/Llama-3.1-70B", "precision": "fp8", "silicon_tpot_ms": "7"}
    read(tmp_path, {}, dense)
    target = tmp_path / "mine.yaml"
    assert main(["profile", "terms", str(tmp_path / "sample.csv"), "-o", str(target)]) == 0
    assert "terms from 2 runs of 2 deployments" in capsys.readouterr().out
    old, new = load_engine("vllm"), load_engine(str(target))
    assert [terms.model for terms in new.step_terms] == ["llama-3.1-70b", "minimax-m2.5", None]
    assert new.step_terms_spread is not None
    fields = {"step_terms", "step_terms_spread", "sources"}
    assert new.model_dump(exclude=fields) == old.model_dump(exclude=fields)
    covered = {field for source in new.sources for field in source.covers}
    assert covered == {field for source in old.sources for field in source.covers}
