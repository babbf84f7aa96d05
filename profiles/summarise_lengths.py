"""Figures of a request trace, as the catalogue ships them.

    python -m profiles.summarise_lengths TRACE.csv.gz --name NAME --source TEXT --licence TEXT --date DATE -o NAME.yaml

The trace is a CSV file (also .gz) with the columns arrival_s, input_tokens, output_tokens.
"""

import argparse
import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from profiles.csv_table import read_rows
from profiles.errors import ProfileError

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
MAX_TRACE_BYTES = 200_000_000
TAIL = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075)
LEVELS = (*TAIL, *(round(0.1 + 0.04 * i, 3) for i in range(21)), *(round(1.0 - t, 4) for t in reversed(TAIL)))
WINDOWS_S = (1, 10, 60)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRows:
    """A trace's requests: arrival in seconds (not decreasing), input and output tokens; arrays of one length."""

    arrival_s: FloatArray
    input_tokens: FloatArray
    output_tokens: FloatArray


def read_trace(path: Path) -> TraceRows:
    """The requests of a trace file; ProfileError with line and column where something is wrong with it."""
    arrivals, inputs, outputs = [], [], []
    for row in read_rows(path, COLUMNS, MAX_TRACE_BYTES):
        arrivals.append(row.number("arrival_s", least=0))
        if len(arrivals) > 1 and arrivals[-1] < arrivals[-2]:
            raise row.fault("arrival_s", "is before the line above")
        inputs.append(row.whole("input_tokens", least=1))
        outputs.append(row.whole("output_tokens", least=1))
    return TraceRows(
        arrival_s=np.array(arrivals),
        input_tokens=np.array(inputs, dtype=np.float64),
        output_tokens=np.array(outputs, dtype=np.float64),
    )


def summarise_trace(rows: TraceRows) -> dict[str, Any]:
    """The figures of a trace by the field names of `profiles.lengths.TraceSummary`, without name and source.

    The copula correlation is 2 sin(π ρ / 6) of Spearman's ρ (Kruskal, JASA 53, 1958). Raises ProfileError for a trace
    of under 2 requests or of under 2 minutes.
    """
    span_s = float(rows.arrival_s[-1] - rows.arrival_s[0])
    if len(rows.arrival_s) < 2 or span_s <= 0:
        raise ProfileError("A trace needs at least two requests at different times.")
    spearman = _correlation(_ranks(rows.input_tokens), _ranks(rows.output_tokens))
    return {
        "requests": len(rows.arrival_s),
        "span_s": round(span_s, 3),
        "levels": list(LEVELS),
        "input_tokens": _length_table(rows.input_tokens),
        "output_tokens": _length_table(rows.output_tokens),
        "spearman": round(spearman, 4),
        "copula_correlation": round(2.0 * math.sin(math.pi * spearman / 6.0), 4),
        "arrivals": _arrivals(rows.arrival_s),
    }


def _length_table(tokens: FloatArray) -> dict[str, Any]:
    quantiles = np.quantile(tokens, LEVELS)
    return {
        "mean": round(float(tokens.mean()), 2),
        "cv": round(float(tokens.std() / tokens.mean()), 4),
        "quantiles": [round(float(q), 1) for q in quantiles],
    }


def _arrivals(arrival_s: FloatArray) -> dict[str, float]:
    """Mean rate, cv of the gaps, and dispersion (variance over mean) of counts in whole windows."""
    gaps = np.diff(arrival_s)
    figures = {
        "mean_rps": len(gaps) / (arrival_s[-1] - arrival_s[0]),
        "interarrival_cv": gaps.std() / gaps.mean(),
    }
    for window in WINDOWS_S:
        figures[f"dispersion_{window}s"] = _dispersion(arrival_s - arrival_s[0], window)
    return {name: round(float(value), 4) for name, value in figures.items()}


def _dispersion(arrival_s: FloatArray, window_s: int) -> float:
    windows = int(arrival_s[-1] // window_s)
    if windows < 2:
        raise ProfileError(f"A trace of {arrival_s[-1]:g} s is too short for windows of {window_s} s.")
    counts = np.bincount((arrival_s // window_s).astype(np.int64), minlength=windows)[:windows]
    return float(counts.var() / counts.mean())


def _ranks(values: FloatArray) -> FloatArray:
    """Average ranks: equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2.0)[inverse])


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def main(arguments: list[str] | None = None) -> None:
    """Read a trace, write its figures as YAML."""
    parser = argparse.ArgumentParser(prog="python -m profiles.summarise_lengths", description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--source", required=True, help="where the trace was published")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--date", required=True, type=datetime.date.fromisoformat, help="when it was read, YYYY-MM-DD")
    parser.add_argument("-o", "--output", required=True, type=Path)
    given = parser.parse_args(arguments)
    try:
        figures = summarise_trace(read_trace(given.trace))
    except ProfileError as error:
        parser.error(str(error))
    provenance = {"source": given.source, "date": given.date}
    payload = {"name": given.name, **figures, "licence": given.licence, "provenance": provenance}
    text = yaml.safe_dump(payload, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    part = given.output.with_name(given.output.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(given.output)


if __name__ == "__main__":
    main()
