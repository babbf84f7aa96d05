"""Predicted against measured TTFT and TPOT of SGLang and TensorRT-LLM, each under its own engine file.

Terms are fitted without the model that they are tested on (SGLang was measured with one model: without the GPU and the
precision), or with 4 runs of the deployment besides. Runs that speculated, that began with the compilation of kernels
or that waited for KV memory stand apart. `MUXPLAN_WRITE_DOCS=1` writes the table of docs/accuracy.md anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from planner.estimate import Estimator
from planner.fit_engine import Fits, Runs, by_deployment, common_terms, fit_alone, fold_of, without
from planner.measured_runs import PreparedRun, errors, prepare_runs
from planner.question import Question
from planner.silicon_sample import SampleRun, read_sample
from profiles.engines import load_engine
from tests.accuracy_scores import (
    CALIBRATION_RUNS,
    ROWS,
    Scored,
    assert_page_has,
    calibrated,
    left_out,
    lines_of,
    own,
    scored,
    shares,
)

BEGIN, END = "<!-- written by tests/benchmarks/test_accuracy_engines.py -->", "<!-- end of engines -->"
IN_SCOPE = {"sglang": 155, "trtllm": 387}
NAMES = {"sglang": "SGLang", "trtllm": "TensorRT-LLM"}
APART: Mapping[str, Callable[[SampleRun], bool]] = {
    "bound by KV memory": lambda one: one.kv_bound,
    "started cold": lambda one: one.cold and not one.kv_bound,
    "speculated": lambda one: one.speculated and not one.kv_bound,
}

pytestmark = pytest.mark.skipif(not ROWS.exists(), reason="measured runs are not at hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All rows of an engine, those that terms can be fitted on, and each deployment's own terms."""

    samples: list[SampleRun]
    runs: Runs
    fits: Fits


@pytest.fixture(scope="module")
def engines() -> Mapping[str, Measured]:
    found = {}
    for engine in IN_SCOPE:
        samples = read_sample(ROWS, engine)
        runs = by_deployment(samples, Estimator())
        found[engine] = Measured(samples=samples, runs=runs, fits=fit_alone(runs, lambda _line: None))
    return found


@pytest.fixture(scope="module")
def methods(engines: Mapping[str, Measured]) -> dict[str, dict[str, list[Scored]]]:
    """Engine → every way to predict, with what it scored."""
    return {engine: scores(measured) for engine, measured in engines.items()}


def scores(measured: Measured) -> dict[str, list[Scored]]:
    """Every way to predict the runs of an engine, with what it scored."""
    runs, fits = measured.runs, measured.fits
    fold = fold_of(runs)
    many = {deployment: some for deployment, some in runs.items() if len(some) > CALIBRATION_RUNS}
    found = {
        "as if vLLM had served it": as_vllm(runs),
        "left out": left_out(runs, fits, fold),
        "left out, 4 runs of the deployment": calibrated(many, fits, fold),
        "terms fitted on the deployment itself": own(runs, fits),
    }
    for name, belongs in APART.items():
        some = [sample for sample in measured.samples if belongs(sample)]
        if some:
            found[f"{name}, left out"] = apart(some, measured)
    return found


def as_vllm(runs: Runs) -> list[Scored]:
    """The runs under vLLM's file: its scheduler and its common terms."""
    terms = load_engine("vllm").step_terms[-1]
    found = []
    for deployment, some in runs.items():
        asked = [replace(one.run, question=served_by_vllm(one)) for one in some]
        prepared = prepare_runs(asked, Estimator())
        found += scored(deployment, prepared, errors(prepared, terms))
    return found


def served_by_vllm(one: PreparedRun) -> Question:
    """The run's question, put to vLLM as it was launched for the same benchmark."""
    question = one.run.question
    return replace(
        question,
        engine="vllm",
        poll_steps=1,
        wait_steps=0,
        max_num_batched_tokens=8192,
        gpu_memory_utilization=0.95,
    )


def apart(some: list[SampleRun], measured: Measured) -> list[Scored]:
    """Runs that no terms are fitted on, under the common terms of the deployments outside their fold."""
    fold = fold_of(measured.runs)
    found = []
    for sample, one in zip(some, prepare_runs([s.run for s in some], Estimator()), strict=True):
        terms = common_terms(without(measured.fits, fold, fold(sample.deployment)))
        found += scored(sample.deployment, [one], errors([one], terms))
    return found


def table(methods: dict[str, dict[str, list[Scored]]]) -> str:
    """The table of the page."""
    lines = ["| other engines, terms | runs | TPOT | TTFT |", "|---|---|---|---|"]
    for engine, found in methods.items():
        lines += lines_of({f"{NAMES[engine]}, {name}": some for name, some in found.items()})
    return "\n".join(lines)


def test_every_row_is_answered(engines: Mapping[str, Measured], methods: dict[str, dict[str, list[Scored]]]) -> None:
    for engine, measured in engines.items():
        assert len(measured.samples) == IN_SCOPE[engine]
        scored_once = [
            some for name, some in methods[engine].items() if name == "left out" or name.endswith(", left out")
        ]
        assert sum(len(some) for some in scored_once) == IN_SCOPE[engine]
        assert all(np.all(np.isfinite(one.error)) for some in scored_once for one in some)


@pytest.mark.parametrize("engine", sorted(IN_SCOPE))
def test_an_engine_s_own_file_predicts_it_better(methods: dict[str, dict[str, list[Scored]]], engine: str) -> None:
    as_another, own_file = (shares(methods[engine][name]) for name in ("as if vLLM had served it", "left out"))
    assert np.all(own_file < as_another), "medians and p90 of TTFT and TPOT"
    assert own_file[0][0] <= 25 and own_file[1][0] <= 12, "medians of TTFT and TPOT"


@pytest.mark.parametrize("engine", sorted(IN_SCOPE))
def test_four_runs_of_the_deployment_help(methods: dict[str, dict[str, list[Scored]]], engine: str) -> None:
    unseen, known = (shares(methods[engine][name]) for name in ("left out", "left out, 4 runs of the deployment"))
    assert np.all(known[:, 0] < unseen[:, 0])


def test_the_page_has_these_figures(methods: dict[str, dict[str, list[Scored]]]) -> None:
    assert_page_has(table(methods), BEGIN, END)
