"""`muxplan profile terms`: the terms of an engine's file, fitted on many measured runs."""

import argparse
import datetime
import json
import sys
from pathlib import Path

import yaml

from planner.estimate import Estimator
from planner.files import atomic_write_text, check_writable
from planner.fit_engine import by_deployment, fit_alone, spread_of, step_terms
from planner.silicon_sample import read_sample
from profiles.catalogue_files import Provenance
from profiles.engines import Engine, load_engine

COVERS = ("step_terms", "step_terms_spread")
WIDTH = 160


def run(arguments: argparse.Namespace) -> int:
    """Fit, and write the engine's file with the new terms; 0 when it was written."""
    output, engine = Path(arguments.output), load_engine(arguments.engine)
    check_writable(output)

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")

    runs = by_deployment(read_sample(Path(arguments.runs), arguments.engine), Estimator())
    fits = fit_alone(runs, tell)
    fitted = engine.model_copy(
        update={
            "step_terms": step_terms(runs, fits),
            "step_terms_spread": spread_of(list(fits.values())),
            "sources": (*_others(engine), _source(engine.name)),
        }
    )
    atomic_write_text(output, _text(fitted))
    if arguments.json:
        sys.stdout.write(json.dumps([t.model_dump(mode="json") for t in fitted.step_terms], indent=2) + "\n")
        return 0
    common = fitted.step_terms[-1]
    assert common.fit is not None
    sys.stdout.write(
        f"{output}: terms from {common.fit.runs} runs of {common.fit.deployments} deployments; a model left out is"
        f" predicted within {common.fit.tpot_median_error_fraction:.1%} (TPOT) and"
        f" {common.fit.ttft_median_error_fraction:.1%} (TTFT) in the median\n"
    )
    return 0


def _others(engine: Engine) -> list[Provenance]:
    """The sources of all that is not fitted here."""
    rest = [(source, tuple(c for c in source.covers if c not in COVERS)) for source in engine.sources]
    return [source.model_copy(update={"covers": covers}) for source, covers in rest if covers]


def _source(engine: str) -> Provenance:
    return Provenance(
        source=f"closed-loop runs of {engine} in silicon_sample.csv of aiconfigurator-core 0.12.0 (NVIDIA, Apache-2.0)",
        date=datetime.date.today(),
        covers=COVERS,
        note="fitted by muxplan profile terms; they move two- to fourfold between engine versions: calibrate on runs of"
        " your own where they matter",
    )


def _text(engine: Engine) -> str:
    data = engine.model_dump(mode="json", exclude_unset=True)
    first = ("model", "quantizations", "generations")
    data["step_terms"] = [
        {**{key: terms[key] for key in first if key in terms}, **terms} for terms in data["step_terms"]
    ]
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True)
