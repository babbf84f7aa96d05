"""`muxplan calibrate RUNS.csv`: a user's few measured runs correct the engine terms of what they ran.

The file has the columns of `estimate --from`, and what was measured: `ttft_ms` and `tpot_ms`, means over all requests.
Runs of one model in one format on one GPU are fitted together, whatever their parallelism and load, around the terms of
the engine's file: few runs move the terms little, and one that does not go with the others hardly counts.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from planner.estimate import Estimator
from planner.estimate_rows import number_of, question_of, read_rows
from planner.fit_terms import fit_terms
from planner.measured_runs import MeasuredRun, PreparedRun, RunsError, prepare_runs
from profiles.calibration import Calibration, DeploymentTerms
from profiles.catalogue_files import Provenance
from profiles.engines import Engine, load_engine
from profiles.errors import ProfileError

MEASURED = ("ttft_ms", "tpot_ms")


def read_runs(path: Path, engine: str) -> list[MeasuredRun]:
    """The runs of a file; RunsError or RowError names the line and the column at fault."""
    header, rows = read_rows(path)
    missing = [column for column in MEASURED if column not in header]
    if missing:
        raise RunsError(f"{path}:1: the column {missing[0]} is missing: the measured mean in milliseconds.")
    if not rows:
        raise RunsError(f"{path} has no rows: there is nothing to calibrate with.")
    return [_run(path, line, row, engine) for line, row in rows]


def calibrate_runs(runs: Sequence[MeasuredRun], engine_name: str, source: str) -> Calibration:
    """The terms of every model, format and GPU that was run; RunsError for a run that the engine would refuse."""
    engine = load_engine(engine_name)
    groups: dict[tuple[str, str, str], list[PreparedRun]] = {}
    for one in prepare_runs(runs, Estimator()):
        found = one.prepared.found
        groups.setdefault((found.gpu.name, found.model.digest, found.layout.quantization), []).append(one)
    return Calibration(
        engine=engine.name,
        terms=tuple(_terms(engine, some) for some in groups.values()),
        sources=(Provenance(source=f"muxplan calibrate {source}", date=datetime.date.today(), covers=("terms",)),),
    )


def _terms(engine: Engine, runs: Sequence[PreparedRun]) -> DeploymentTerms:
    found = runs[0].prepared.found
    if engine.step_terms_spread is None:
        raise ProfileError(f"engine {engine.name!r} has no step_terms_spread: its terms cannot be calibrated by runs.")
    prior = engine.terms_for(found.gpu, found.model, found.layout.quantization)
    return DeploymentTerms(
        gpu=found.gpu.name,
        model_digest=found.model.digest,
        quantization=found.layout.quantization,
        terms=fit_terms(runs, prior, engine.step_terms_spread),
        runs=len(runs),
    )


def _run(path: Path, line: int, row: Mapping[str, str], engine: str) -> MeasuredRun:
    measured = [number_of(path, line, row, column) for column in MEASURED]
    for column, value in zip(MEASURED, measured, strict=True):
        if value is None:
            raise RunsError(f"{path}:{line}: {column} is empty: the measured mean in milliseconds.")
    return MeasuredRun(
        question=replace(question_of(path, line, row), engine=engine),
        ttft_ms=measured[0] or 0.0,
        tpot_ms=measured[1] or 0.0,
        where=f"{path}:{line}",
    )
