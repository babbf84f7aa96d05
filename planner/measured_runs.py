"""Measured runs of an engine beside what the simulator says of the same load, as fits of engine terms need them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.estimate import Estimator, Prepared
from planner.question import Question
from planner.simulate_types import FloatArray
from profiles.engine_terms import launch_layers, with_terms
from profiles.engines import TermValues
from profiles.errors import PlanningError
from profiles.layout import Refusal
from profiles.step_table import StepTable
from profiles.units import ms_from_s


class RunsError(PlanningError):
    """A file of measured runs cannot be used: the message names file, line and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """Mean TTFT and TPOT that an engine showed under the load of a question; `where` says which row it is."""

    question: Question
    ttft_ms: float
    tpot_ms: float
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A measured run that can be simulated under any terms."""

    run: MeasuredRun
    prepared: Prepared

    @property
    def measured(self) -> FloatArray:
        """Logarithms of the measured (TTFT, TPOT) in milliseconds, shape (2,)."""
        return np.log([self.run.ttft_ms, self.run.tpot_ms])

    def predicted(self, terms: TermValues) -> FloatArray:
        """Logarithms of the simulated mean (TTFT, TPOT) in milliseconds under these terms, shape (2,)."""
        return self.predicted_by(self.table(terms))

    def table(self, terms: TermValues) -> StepTable:
        """The step table of the run's deployment under these terms."""
        deployment = self.prepared.deployment
        return with_terms(self.prepared.cell.table, terms, launch_layers(deployment.model, deployment.stage_layers))

    def predicted_by(self, table: StepTable) -> FloatArray:
        """Logarithms of the simulated mean (TTFT, TPOT) in milliseconds by another step table, shape (2,)."""
        outcome, _ = self.prepared.simulate(replace(self.prepared.cell, table=table))
        served = outcome.served
        return np.log([ms_from_s(float(np.nanmean(x[served]))) for x in (outcome.ttft_s, outcome.tpot_s)])


def prepare_runs(runs: Sequence[MeasuredRun], estimator: Estimator) -> list[PreparedRun]:
    """The runs ready to be simulated; RunsError for one whose deployment is refused: it ran, so a field is wrong."""
    found = []
    for run in runs:
        prepared = estimator.prepare(run.question)
        if isinstance(prepared, Refusal):
            raise RunsError(f"{run.where}: {prepared.sentence}")
        found.append(PreparedRun(run=run, prepared=prepared))
    return found


def errors(runs: Sequence[PreparedRun], terms: TermValues) -> FloatArray:
    """(predicted / measured − 1) of (TTFT, TPOT) of each run, shape (runs, 2)."""
    return np.array([np.expm1(run.predicted(terms) - run.measured) for run in runs]).reshape(-1, 2)
