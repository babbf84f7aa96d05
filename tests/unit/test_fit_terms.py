"""Terms are found again from runs that the simulator itself made under them, bad runs or not."""

from dataclasses import replace

import numpy as np
import pytest

from planner.estimate import Estimator
from planner.fit_terms import as_array, as_terms, fit_terms
from planner.measured_runs import MeasuredRun, PreparedRun, RunsError, errors, prepare_runs
from planner.question import Question
from planner.simulate_types import FloatArray
from profiles.engines import TermValues, load_engine

TRUTH = TermValues(overhead_s=2.5e-3, prefill_factor=1.4, prefill_floor_s_per_layer=8e-4)
PRIOR = TermValues(overhead_s=1.2e-3, prefill_factor=1.2, prefill_floor_s_per_layer=5e-4)
WIDE = TermValues(overhead_s=1.2e-3, prefill_factor=0.3, prefill_floor_s_per_layer=5e-4)
LOADS = ((256, 64, 2), (1024, 64, 8), (4096, 32, 4), (512, 128, 16), (2048, 64, 4))


def question(inputs: int, outputs: int, clients: int) -> Question:
    return Question(
        model="llama-3.1-8b",
        gpu="h100-sxm-80gb",
        input_tokens=inputs,
        output_tokens=outputs,
        concurrency=clients,
        length_low_fraction=0.8,
    )


@pytest.fixture(scope="module")
def runs() -> list[PreparedRun]:
    """Runs whose measurements are what the simulator says under TRUTH."""
    blank = [MeasuredRun(question=question(*load), ttft_ms=1.0, tpot_ms=1.0, where="row") for load in LOADS]
    found = []
    for one in prepare_runs(blank, Estimator()):
        ttft, tpot = np.exp(one.predicted(TRUTH))
        found.append(replace(one, run=replace(one.run, ttft_ms=float(ttft), tpot_ms=float(tpot))))
    return found


def scaled(one: PreparedRun, factor: float) -> PreparedRun:
    run = replace(one.run, ttft_ms=one.run.ttft_ms * factor, tpot_ms=one.run.tpot_ms * factor)
    return replace(one, run=run)


def typical(found: FloatArray) -> float:
    """Median absolute error."""
    return float(np.median(np.abs(found)))


def test_errors_under_the_truth_are_none(runs: list[PreparedRun]) -> None:
    assert errors(runs, TRUTH) == pytest.approx(0.0, abs=1e-9)
    assert errors(runs, TRUTH).shape == (len(LOADS), 2)
    assert errors([scaled(runs[0], 0.5)], TRUTH) == pytest.approx(1.0, rel=1e-9)


def test_the_truth_is_found_again(runs: list[PreparedRun]) -> None:
    terms = fit_terms(runs, PRIOR, WIDE)
    assert terms.overhead_s == pytest.approx(TRUTH.overhead_s, rel=0.1)
    assert terms.prefill_factor == pytest.approx(TRUTH.prefill_factor, rel=0.1)
    assert typical(errors(runs, terms)) < 0.02 < 0.1 < typical(errors(runs, PRIOR))


def test_one_run_already_helps_and_does_not_go_all_the_way(runs: list[PreparedRun]) -> None:
    terms = fit_terms(runs[:1], PRIOR, WIDE)
    assert typical(errors(runs[1:], terms)) < typical(errors(runs[1:], PRIOR))
    assert PRIOR.overhead_s < terms.overhead_s < TRUTH.overhead_s


def test_one_bad_run_does_no_harm(runs: list[PreparedRun]) -> None:
    for factor in (5.0, 0.2):
        terms = fit_terms([scaled(runs[0], factor), *runs[1:]], PRIOR, WIDE)
        assert typical(errors(runs[1:], terms)) < 0.05


def test_a_spread_of_nothing_keeps_the_prior(runs: list[PreparedRun]) -> None:
    nothing = TermValues(overhead_s=0.0, prefill_factor=1e-9, prefill_floor_s_per_layer=0.0)
    assert as_array(fit_terms(runs, PRIOR, nothing)) == pytest.approx(as_array(PRIOR), abs=1e-6)


def test_terms_and_arrays_are_the_same() -> None:
    assert as_terms(as_array(TRUTH)) == TRUTH


def test_a_run_that_cannot_have_been_is_named(runs: list[PreparedRun]) -> None:
    refused = replace(runs[0].run, question=replace(runs[0].run.question, tp=3), where="mine.csv:7")
    with pytest.raises(RunsError, match=r"mine\.csv:7: .*cannot be divided by tp 3"):
        prepare_runs([refused], Estimator())


def test_the_engine_s_own_terms_are_those_of_an_uncalibrated_run(runs: list[PreparedRun]) -> None:
    found = runs[0].prepared.found
    terms = load_engine("vllm").terms_for(found.gpu, found.model, found.layout.quantization)
    outcome, _ = runs[0].prepared.simulate(runs[0].prepared.cell)
    assert np.exp(runs[0].predicted(terms))[0] == pytest.approx(1e3 * np.mean(outcome.ttft_s))
