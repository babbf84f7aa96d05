"""How far predictions are off on measured runs, under terms that were fitted without them."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.fit_engine import UNKNOWN, UNKNOWN_SPREAD, Fits, Runs, common_terms, spread_of, without
from planner.fit_terms import LEAST, NOISE, PROBE, Misfit, as_array, as_terms, fit_terms, most_probable
from planner.measured_runs import PreparedRun, errors
from planner.silicon_sample import Deployment
from planner.simulate_types import FloatArray
from profiles.engine_terms import LATENT_LAUNCHES

ROWS = Path(__file__).parents[2] / "shared" / "measured" / "engine_runs.csv.gz"
DOC = Path(__file__).parents[1] / "docs" / "accuracy.md"
CALIBRATION_RUNS = 4
REPEATS = 3
DEEPSEEK_LAUNCHES = 3.9
FRONT_END = np.array([3e-3, 2e-6])
"""Before anything was measured: seconds a request, and a token of its prompt, in the front end."""
FRONT_END_SPREAD = np.array([6e-3, 5e-6])
FRONT_END_PROBE = np.array([5e-4, 5e-7])
Fold = Callable[[Deployment], Hashable]


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


def scored(deployment: Deployment, some: Sequence[PreparedRun], found: FloatArray) -> list[Scored]:
    """Errors with what they belong to."""
    return [Scored(deployment=deployment, run=run, error=error) for run, error in zip(some, found, strict=True)]


def left_out(runs: Runs, fits: Fits, fold: Fold) -> list[Scored]:
    """Every run under the common terms of the deployments outside its fold."""
    found = []
    for deployment, some in runs.items():
        terms = common_terms(without(fits, fold, fold(deployment)))
        found += scored(deployment, some, errors(some, terms))
    return found


def left_out_latent(runs: Runs, fits: Fits, fold: Fold) -> list[Scored]:
    """As `left_out`, with what latent attention launches as the runs of DeepSeek on TensorRT-LLM alone have it."""
    found = []
    for deployment, some in runs.items():
        terms = common_terms(without(fits, fold, fold(deployment)))
        if some[0].prepared.found.model.mla is not None:
            floor_s = terms.prefill_floor_s_per_layer * DEEPSEEK_LAUNCHES / LATENT_LAUNCHES
            terms = terms.model_copy(update={"prefill_floor_s_per_layer": floor_s})
        found += scored(deployment, some, errors(some, terms))
    return found


def own(runs: Runs, fits: Fits) -> list[Scored]:
    """In-sample: what the step model cannot explain whatever its terms."""
    found = []
    for deployment, some in runs.items():
        found += scored(deployment, some, errors(some, fits[deployment]))
    return found


def calibrated(runs: Runs, fits: Fits, fold: Fold, *, spoilt: bool = False) -> list[Scored]:
    """Every run under terms fitted on 4 others of its deployment, around those outside its fold; several draws.

    `spoilt`: one of the 4 was measured at three times its latencies.
    """
    rng = np.random.default_rng(0)
    found = []
    for deployment, some in runs.items():
        others = without(fits, fold, fold(deployment))
        for _ in range(REPEATS):
            order = rng.permutation(len(some))
            known = [some[i] for i in order[:CALIBRATION_RUNS]]
            rest = [some[i] for i in order[CALIBRATION_RUNS:]]
            if spoilt:
                known[0] = slowed(known[0], 3.0)
            terms = fit_terms(known, common_terms(others), spread_of(others))
            found += scored(deployment, rest, errors(rest, terms))
    return found


def slowed(one: PreparedRun, factor: float) -> PreparedRun:
    """The same run, measured wrong."""
    run = replace(one.run, ttft_ms=one.run.ttft_ms * factor, tpot_ms=one.run.tpot_ms * factor)
    return replace(one, run=run)


def front_end_fits(runs: Runs) -> Mapping[Deployment, FloatArray]:
    """The three terms and the front end's two times of each deployment, fitted together on its own runs."""
    return {deployment: _fit_with_front_end(some) for deployment, some in runs.items()}


def front_end_left_out(runs: Runs, fits: Mapping[Deployment, FloatArray], fold: Fold) -> list[Scored]:
    """Every run under the terms and the front end's times that are common outside its fold."""
    found = []
    for deployment, some in runs.items():
        others = np.median([at for d, at in fits.items() if fold(d) != fold(deployment)], axis=0)
        found += scored(deployment, some, np.expm1([_predicted(run, others) - run.measured for run in some]))
    return found


def _fit_with_front_end(some: Sequence[PreparedRun]) -> FloatArray:
    def residuals(at: FloatArray) -> FloatArray:
        return np.concatenate([(_predicted(run, at) - run.measured) / NOISE for run in some])

    misfit = Misfit(
        residuals=residuals,
        probe=np.concatenate([PROBE, FRONT_END_PROBE]),
        least=np.concatenate([LEAST, np.zeros(2)]),
    )
    center = np.concatenate([as_array(UNKNOWN), FRONT_END])
    return most_probable(misfit, center, np.concatenate([as_array(UNKNOWN_SPREAD), FRONT_END_SPREAD]), center)[0]


def _predicted(run: PreparedRun, at: FloatArray) -> FloatArray:
    table = run.table(as_terms(at[:3]))
    request_s, token_s = at[3:].tolist()
    return run.predicted_by(replace(table, front_end_request_s=request_s, front_end_input_token_s=token_s))


def shares(some: Sequence[Scored]) -> FloatArray:
    """Median and p90 of the absolute error in per cent: [[TTFT median, TTFT p90], [TPOT median, TPOT p90]]."""
    found = np.abs(np.array([one.error for one in some]))
    return np.asarray(100 * np.quantile(found, [0.5, 0.9], axis=0).T)


def cells(some: Sequence[Scored]) -> str:
    """TPOT and TTFT as two cells of a table."""
    ttft, tpot = shares(some)
    return f"{tpot[0]:.1f} / {tpot[1]:.1f} | {ttft[0]:.1f} / {ttft[1]:.1f}"


def lines_of(methods: Mapping[str, Sequence[Scored]]) -> list[str]:
    """A line of a table for each method."""
    return [f"| {name} | {len(some)} | {cells(some)} |" for name, some in methods.items()]


def assert_page_has(table: str, begin: str, end: str) -> None:
    """The page holds the table between two marks; `MUXPLAN_WRITE_DOCS=1` writes it there anew."""
    before, rest = DOC.read_text(encoding="utf-8").split(begin)
    shown, after = rest.split(end)
    fresh = f"\n\n{table}\n\n"
    if os.environ.get("MUXPLAN_WRITE_DOCS"):
        DOC.write_text(before + begin + fresh + end + after, encoding="utf-8")
        return
    assert shown == fresh
