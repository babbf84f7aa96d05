"""Predicted against measured TTFT and TPOT of vLLM, where the measured runs are at hand: what nobody had fitted on.

Every row goes through the simulator as the closed loop that it was. Terms are fitted without the rows that they are
tested on: without all rows of the model, without all of the GPU generation, or with 4 runs of the deployment around the
terms of other models. The tables of docs/accuracy.md are this benchmark's; `MUXPLAN_WRITE_DOCS=1` writes them anew.
"""

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from planner.estimate import Estimator
from planner.fit_engine import Fits, Runs, by_deployment, common_terms, fit_alone, spread_of, without
from planner.fit_terms import fit_terms
from planner.measured_runs import PreparedRun, errors, prepare_runs
from planner.silicon_sample import Deployment, SampleRun, read_sample
from planner.simulate_types import FloatArray
from profiles.gpus import load_gpu
from profiles.layout import Refusal
from tests.closed_form import closed_form_ms

ROWS = Path(__file__).parents[3] / "shared" / "measured" / "engine_runs.csv.gz"
DOC = Path(__file__).parents[2] / "docs" / "accuracy.md"
BEGIN, END = "<!-- written by tests/benchmarks/test_accuracy.py -->", "<!-- end -->"
CALIBRATION_RUNS = 4
REPEATS = 3
IN_SCOPE = 608

pytestmark = pytest.mark.skipif(not ROWS.exists(), reason="measured runs are not at hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One prediction: the run, and (TTFT, TPOT) predicted / measured − 1."""

    deployment: Deployment
    run: PreparedRun
    error: FloatArray

    @property
    def clients(self) -> int:
        """Clients of the closed loop."""
        return self.run.run.question.concurrency or 1


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


def left_out(runs: Runs, fits: Fits, of: Callable[[Deployment], Hashable]) -> list[Scored]:
    """Every run under the common terms of the deployments outside its fold."""
    found = []
    for deployment, some in runs.items():
        terms = common_terms(without(fits, of, of(deployment)))
        found += scored(deployment, some, errors(some, terms))
    return found


def calibrated(runs: Runs, fits: Fits, *, spoilt: bool = False) -> list[Scored]:
    """Every run under terms fitted on 4 others of its deployment, around those of other models; several draws.

    `spoilt`: one of the 4 was measured at three times its latencies.
    """
    rng = np.random.default_rng(0)
    found = []
    for deployment, some in runs.items():
        others = without(fits, model_of, deployment.model)
        for _ in range(REPEATS):
            order = rng.permutation(len(some))
            known = [some[i] for i in order[:CALIBRATION_RUNS]]
            rest = [some[i] for i in order[CALIBRATION_RUNS:]]
            if spoilt:
                known[0] = slowed(known[0], 3.0)
            terms = fit_terms(known, common_terms(others), spread_of(others))
            found += scored(deployment, rest, errors(rest, terms))
    return found


def scored(deployment: Deployment, some: Sequence[PreparedRun], found: FloatArray) -> list[Scored]:
    """Errors with what they belong to."""
    return [Scored(deployment=deployment, run=run, error=error) for run, error in zip(some, found, strict=True)]


def slowed(one: PreparedRun, factor: float) -> PreparedRun:
    """The same run, measured wrong."""
    run = replace(one.run, ttft_ms=one.run.ttft_ms * factor, tpot_ms=one.run.tpot_ms * factor)
    return replace(one, run=run)


def closed_form(runs: Runs) -> list[Scored]:
    """The closed form of a public tool on the same runs and the same kernel times."""
    found = []
    for deployment, some in runs.items():
        for one in some:
            ratio = np.array(closed_form_ms(one.prepared)) / np.exp(one.measured)
            found.append(Scored(deployment=deployment, run=one, error=ratio - 1.0))
    return found


def shares(some: Sequence[Scored]) -> FloatArray:
    """Median and p90 of the absolute error in per cent: [[TTFT median, TTFT p90], [TPOT median, TPOT p90]]."""
    found = np.abs(np.array([one.error for one in some]))
    return np.asarray(100 * np.quantile(found, [0.5, 0.9], axis=0).T)


def cells(some: Sequence[Scored]) -> str:
    """TPOT and TTFT as two cells of a table."""
    ttft, tpot = shares(some)
    return f"{tpot[0]:.1f} / {tpot[1]:.1f} | {ttft[0]:.1f} / {ttft[1]:.1f}"


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
    return {
        "closed form": closed_form(runs),
        "model left out": left_out(runs, fits, model_of),
        "GPU generation left out": left_out(runs, fits, generation_of),
        "model left out, 4 runs of the deployment": calibrated(runs, fits),
        "the same with 1 of the 4 at three times its latencies": calibrated(runs, fits, spoilt=True),
        "terms fitted on the deployment itself": own(runs, fits),
    }


def own(runs: Runs, fits: Fits) -> list[Scored]:
    """In-sample: what the step model cannot explain whatever its terms."""
    found = []
    for deployment, some in runs.items():
        found += scored(deployment, some, errors(some, fits[deployment]))
    return found


@pytest.fixture(scope="module")
def other_engines(fits: Fits) -> dict[str, list[Scored]]:
    """Runs of other engines as if vLLM had served them, not calibrated and with 4 runs of the deployment."""
    terms, spread = common_terms(list(fits.values())), spread_of(list(fits.values()))
    found: dict[str, list[Scored]] = {}
    for engine in ("sglang", "trtllm"):
        rng = np.random.default_rng(0)
        for deployment, some in answered(read_sample(ROWS, engine)).items():
            order = [some[i] for i in rng.permutation(len(some))]
            known, rest = order[:CALIBRATION_RUNS], order[CALIBRATION_RUNS:]
            own_terms = fit_terms(known, terms, spread)
            found.setdefault(engine, []).extend(scored(deployment, some, errors(some, terms)))
            found.setdefault(f"{engine}, 4 runs", []).extend(scored(deployment, rest, errors(rest, own_terms)))
    return found


def answered(samples: list[SampleRun]) -> Runs:
    """The runs that vLLM's memory share (0.9) has room for: the others were given more."""
    estimator = Estimator()
    kept = [one for one in samples if not isinstance(estimator.prepare(one.run.question), Refusal)]
    return by_deployment(kept, estimator)


def table(methods: dict[str, list[Scored]], kv_bound: list[Scored], other_engines: dict[str, list[Scored]]) -> str:
    """The tables of the page."""
    lines = ["| vLLM, aggregated; terms | runs | TPOT | TTFT |", "|---|---|---|---|"]
    lines += [f"| {name} | {len(some)} | {cells(some)} |" for name, some in methods.items()]
    lines.append(f"| bound by KV memory, model left out | {len(kv_bound)} | {cells(kv_bound)} |")
    unseen, known = (methods[n] for n in ("model left out", "model left out, 4 runs of the deployment"))
    lines += ["", "| | runs | TPOT, model left out | TTFT | TPOT, 4 runs known | TTFT |", "|---|---|---|---|---|---|"]
    for _, of in GROUPINGS:
        fewest = {of(one): one.clients for one in sorted(unseen, key=lambda one: -one.clients)}
        for value in sorted(fewest, key=lambda name: (fewest[name], name)):
            a, b = ([one for one in some if of(one) == value] for some in (unseen, known))
            lines.append(f"| {value} | {len(a)} | {cells(a)} | {cells(b)} |")
    lines += ["", "| other engines, as if they were vLLM | runs | TPOT | TTFT |", "|---|---|---|---|"]
    lines += [f"| {name} | {len(some)} | {cells(some)} |" for name, some in other_engines.items()]
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


@pytest.mark.parametrize("fold", ["model left out", "GPU generation left out"])
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


def test_the_page_has_these_figures(
    methods: dict[str, list[Scored]], kv_bound: list[Scored], other_engines: dict[str, list[Scored]]
) -> None:
    text = DOC.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    shown, after = rest.split(END)
    fresh = f"\n\n{table(methods, kv_bound, other_engines)}\n\n"
    if os.environ.get("MUXPLAN_WRITE_DOCS"):
        DOC.write_text(before + BEGIN + fresh + END + after, encoding="utf-8")
        return
    assert shown == fresh
