"""The terms of an engine's file from many measured runs: those of each deployment measured, and common ones.

Every deployment (model, GPU, precision, engine version) is fitted alone. The common terms, for what was not measured,
are the medians over the deployments; how they vary between deployments is what a calibration takes as its prior. The
error of the common terms is that on deployments of a model that was left out (of an engine that was measured with one
model: of a GPU and a precision).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from planner.estimate import Estimator
from planner.fit_terms import as_array, as_terms, fit_terms
from planner.measured_runs import PreparedRun, RunsError, errors, prepare_runs
from planner.silicon_sample import Deployment, SampleRun
from planner.simulate_types import FloatArray
from profiles.engines import StepTerms, TermsFit, TermValues
from profiles.gpus import load_gpu
from profiles.models import catalogue_digest
from profiles.precision import Quantization

UNKNOWN = TermValues(overhead_s=1e-3, prefill_factor=1.0, prefill_floor_s_per_layer=5e-4)
"""Before anything was measured: kernels as they are, and launch times of the usual size."""
UNKNOWN_SPREAD = TermValues(overhead_s=3e-3, prefill_factor=0.6, prefill_floor_s_per_layer=1e-3)

Runs = Mapping[Deployment, Sequence[PreparedRun]]
Fits = Mapping[Deployment, TermValues]


def by_deployment(samples: Sequence[SampleRun], estimator: Estimator) -> Runs:
    """The prepared runs of each deployment, of those that terms can be fitted on."""
    kept = [sample for sample in samples if sample.plain]
    found: dict[Deployment, list[PreparedRun]] = {}
    for sample, prepared in zip(kept, prepare_runs([s.run for s in kept], estimator), strict=True):
        found.setdefault(sample.deployment, []).append(prepared)
    return found


def fit_alone(runs: Runs, tell: Callable[[str], None]) -> Fits:
    """The terms of each deployment from its own runs."""
    found = {}
    for deployment, some in runs.items():
        found[deployment] = fit_terms(some, UNKNOWN, UNKNOWN_SPREAD)
        tell(f"{deployment.model}, {deployment.gpu}, {deployment.precision}, {deployment.version}: {len(some)} runs")
    return found


def common_terms(fits: Sequence[TermValues]) -> TermValues:
    """The medians over deployments."""
    return as_terms(np.median([as_array(terms) for terms in fits], axis=0))


def spread_of(fits: Sequence[TermValues]) -> TermValues:
    """The standard deviations over deployments."""
    return as_terms(np.std([as_array(terms) for terms in fits], axis=0, ddof=1))


def without(fits: Fits, of: Callable[[Deployment], Hashable], left_out: Hashable) -> list[TermValues]:
    """The terms of the deployments outside one fold of a cross-validation."""
    return [terms for deployment, terms in fits.items() if of(deployment) != left_out]


def fold_of(runs: Runs) -> Callable[[Deployment], Hashable]:
    """What is left out together to see how good common terms are: a model, or, where only one was run, what ran on one
    kind of GPU in one precision. RunsError when there is a single fold.
    """
    if len({catalogue_digest(deployment.model) for deployment in runs}) > 1:
        return lambda deployment: catalogue_digest(deployment.model)
    if len({(deployment.gpu, deployment.precision) for deployment in runs}) > 1:
        return lambda deployment: (deployment.gpu, deployment.precision)
    raise RunsError("terms for all models need runs of at least two models, GPUs or precisions.")


def step_terms(runs: Runs, fits: Fits) -> tuple[StepTerms, ...]:
    """Entries of an engine's file: of each model, format and generation the newest version measured, then the rest.

    RunsError when nothing would say how good the terms are for what was not measured (`fold_of`).
    """
    fold = fold_of(runs)
    entries = []
    for deployment in _newest(fits):
        some = runs[deployment]
        entries.append(
            StepTerms(
                model=deployment.model,
                quantizations=(Quantization(some[0].prepared.found.layout.quantization),),
                generations=(load_gpu(deployment.gpu).generation,),
                fit=_fit([errors(some, fits[deployment])]),
                **fits[deployment].model_dump(),
            )
        )
    unseen = [errors(some, common_terms(without(fits, fold, fold(deployment)))) for deployment, some in runs.items()]
    return (*entries, StepTerms(fit=_fit(unseen), **common_terms(list(fits.values())).model_dump()))


def _newest(fits: Fits) -> list[Deployment]:
    """One deployment of each model, precision and generation: the newest release, the one with more runs on ties."""
    newest: dict[tuple[str, str, str], Deployment] = {}
    for deployment in sorted(fits, key=lambda d: (_release(d.version), d.gpu)):
        newest[deployment.model, deployment.precision, load_gpu(deployment.gpu).generation] = deployment
    return sorted(newest.values(), key=lambda d: (d.model, d.gpu, d.precision))


def _release(version: str) -> tuple[int, ...]:
    """A version that sorts; nightly and unnamed builds come before all releases."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _fit(found: Sequence[FloatArray]) -> TermsFit:
    ttft, tpot = np.abs(np.concatenate(found)).T
    return TermsFit(
        runs=ttft.size,
        deployments=len(found),
        ttft_median_error_fraction=round(float(np.median(ttft)), 4),
        ttft_p90_error_fraction=round(float(np.quantile(ttft, 0.9)), 4),
        tpot_median_error_fraction=round(float(np.median(tpot)), 4),
        tpot_p90_error_fraction=round(float(np.quantile(tpot, 0.9)), 4),
    )
