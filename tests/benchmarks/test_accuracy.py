"""Predicted against measured TTFT and TPOT of vLLM, where the measured runs are at hand: what nobody had fitted on.

Every row goes through the simulator as the closed loop that it was. Terms are fitted without the rows that they are
tested on: without all rows of the model, without all of the GPU generation, or with 4 runs of the deployment around the
terms of other models. The tables of docs/accuracy.md are this benchmark's; `MUXPLAN_WRITE_DOCS=1` writes them anew.
"""

from collections.abc import Callable, Hashable

import numpy as np
import pytest

from planner.estimate import Estimator
from planner.fit_engine import Fits, Runs, by_deployment, common_terms, fit_alone, without
from planner.measured_runs import errors, prepare_runs
from planner.silicon_sample import Deployment, SampleRun, read_sample
from profiles.gpus import load_gpu
from tests.accuracy_scores import (
    ROWS,
    Scored,
    assert_page_has,
    calibrated,
    cells,
    front_end_fits,
    front_end_left_out,
    left_out,
    left_out_latent,
    lines_of,
    own,
    scored,
    shares,
)
from tests.closed_form import closed_form_ms

BEGIN, END = "<!-- written by tests/benchmarks/test_accuracy.py -->", "<!-- end -->"
IN_SCOPE = 608

pytestmark = pytest.mark.skipif(not ROWS.exists(), reason="measured runs are not at hand")


@pytest.fixture(scope="module")
def samples() -> list[SampleRun]:
    return read_sample(ROWS)


@pytest.fixture(scope="module")
def runs(samples: list[SampleRun]) -> Runs:
    return by_deployment(samples, Estimator())


@pytest.fixture(scope="module")
def fits(runs: Runs) -> Fits:
    return fit_alone(runs, lambda _line: None)


def model_of(deployment: Deployment) -> Hashable:
    return deployment.model


def generation_of(deployment: Deployment) -> Hashable:
    return load_gpu(deployment.gpu).generation


def closed_form(runs: Runs) -> list[Scored]:
    """The closed form of a public tool on the same runs and the same kernel times."""
    found = []
    for deployment, some in runs.items():
        for one in some:
            ratio = np.array(closed_form_ms(one.prepared)) / np.exp(one.measured)
            found.append(Scored(deployment=deployment, run=one, error=ratio - 1.0))
    return found


def clients_of(one: Scored) -> str:
    """The class of concurrency of a run."""
    edges = (8, 32, 64)
    return next((f"up to {edge} clients" for edge in edges if one.clients <= edge), f"over {edges[-1]} clients")


GROUPINGS: tuple[tuple[str, Callable[[Scored], str]], ...] = (
    ("GPU", lambda one: one.deployment.gpu),
    ("model", lambda one: one.deployment.model),
    ("precision", lambda one: one.deployment.precision),
    ("clients", clients_of),
)


@pytest.fixture(scope="module")
def methods(runs: Runs, fits: Fits) -> dict[str, list[Scored]]:
    """Every way to predict, with what it scored."""
    in_front = front_end_fits(runs)
    return {
        "closed form": closed_form(runs),
        "model left out": left_out(runs, fits, model_of),
        "GPU generation left out": left_out(runs, fits, generation_of),
        "model left out, latent attention by DeepSeek alone": left_out_latent(runs, fits, model_of),
        "model left out, the front end's times too": front_end_left_out(runs, in_front, model_of),
        "GPU generation left out, the front end's times too": front_end_left_out(runs, in_front, generation_of),
        "model left out, 4 runs of the deployment": calibrated(runs, fits, model_of),
        "the same with 1 of the 4 at three times its latencies": calibrated(runs, fits, model_of, spoilt=True),
        "terms fitted on the deployment itself": own(runs, fits),
    }


def table(methods: dict[str, list[Scored]], kv_bound: list[Scored]) -> str:
    """The tables of the page."""
    lines = ["| vLLM, aggregated; terms | runs | TPOT | TTFT |", "|---|---|---|---|"]
    lines += lines_of({**methods, "bound by KV memory, model left out": kv_bound})
    unseen, known = (methods[n] for n in ("model left out", "model left out, 4 runs of the deployment"))
    lines += ["", "| | runs | TPOT, model left out | TTFT | TPOT, 4 runs known | TTFT |", "|---|---|---|---|---|---|"]
    for _, of in GROUPINGS:
        fewest = {of(one): one.clients for one in sorted(unseen, key=lambda one: -one.clients)}
        for value in sorted(fewest, key=lambda name: (fewest[name], name)):
            a, b = ([one for one in some if of(one) == value] for some in (unseen, known))
            lines.append(f"| {value} | {len(a)} | {cells(a)} | {cells(b)} |")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def kv_bound(samples: list[SampleRun], fits: Fits) -> list[Scored]:
    """The runs that wait for KV memory, under the common terms of other models."""
    some = [sample for sample in samples if sample.kv_bound]
    found = []
    for sample, one in zip(some, prepare_runs([s.run for s in some], Estimator()), strict=True):
        terms = common_terms(without(fits, model_of, sample.deployment.model))
        found += scored(sample.deployment, [one], errors([one], terms))
    return found


def test_every_row_is_answered(samples: list[SampleRun], methods: dict[str, list[Scored]]) -> None:
    assert len(samples) == IN_SCOPE
    bound = sum(sample.kv_bound for sample in samples)
    unseen = methods["model left out"]
    assert len(unseen) == IN_SCOPE - bound
    assert bound < 0.05 * IN_SCOPE
    assert all(np.all(np.isfinite(one.error)) for one in unseen)


@pytest.mark.parametrize(
    "fold",
    [
        "model left out",
        "GPU generation left out",
        "model left out, latent attention by DeepSeek alone",
        "model left out, the front end's times too",
        "GPU generation left out, the front end's times too",
    ],
)
def test_what_was_not_seen_is_predicted(methods: dict[str, list[Scored]], fold: str) -> None:
    ttft, tpot = shares(methods[fold])
    assert tpot[0] <= 10 and tpot[1] <= 25
    assert ttft[0] <= 25 and ttft[1] <= 55
    formula_ttft, formula_tpot = shares(methods["closed form"])
    assert np.all(tpot < formula_tpot) and np.all(ttft < formula_ttft)
    assert np.all(tpot < (12.6, 25.3)) and np.all(ttft < (25.8, 72.0))


def test_four_runs_of_the_deployment_help(methods: dict[str, list[Scored]]) -> None:
    ttft, tpot = shares(methods["model left out, 4 runs of the deployment"])
    assert tpot[0] <= 5 and tpot[1] <= 12
    assert ttft[0] <= 12 and ttft[1] <= 30


def test_one_bad_run_of_four_does_no_harm(methods: dict[str, list[Scored]]) -> None:
    spoilt = shares(methods["the same with 1 of the 4 at three times its latencies"])
    assert np.all(spoilt < 1.1 * shares(methods["model left out"]))


def test_the_page_has_these_figures(methods: dict[str, list[Scored]], kv_bound: list[Scored]) -> None:
    assert_page_has(table(methods, kv_bound), BEGIN, END)
