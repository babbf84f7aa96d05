"""What every workload sees under a plan: latencies, attainment and evidence over all draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cells import CellKey, CellRun, CellSimulator
from planner.mix_build import Market
from planner.plan_file import FigureEvidence, Percentiles
from planner.queues import CapacityServing, LlmServing
from planner.simulate_types import Outcome
from profiles.evidence import Evidence, EvidenceShares
from profiles.step_table import Component, StepTable
from profiles.units import ms_from_s

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Latencies of one workload's served requests (None where there is no such quantity), and their evidence.

    `requests` were simulated over all draws, `served` of them were answered.
    """

    ttft_ms: Percentiles | None
    tpot_ms: Percentiles | None
    e2e_ms: Percentiles | None
    evidence: FigureEvidence
    requests: int
    served: int


def jobs_of(market: Market, simulator: CellSimulator, cells: Sequence[CellKey]) -> list[tuple[CellKey, int]]:
    """The cells that can be simulated, each on every draw."""
    simulated = [c for c in cells if not isinstance(market.queues[c.queue].template.serving, CapacityServing)]
    return [(cell, k) for cell in simulated for k in range(simulator.draws.count)]


def observe(
    market: Market, jobs: Sequence[tuple[CellKey, int]], simulated: Sequence[CellRun], cells: Sequence[CellKey]
) -> dict[str, Seen]:
    """What each workload saw in the runs of these jobs, by its name; `cells` hold those that are not simulated too."""
    runs = list(zip(jobs, simulated, strict=True))
    found = {}
    for workload in market.workloads:
        mine = [(cell, run) for (cell, _), run in runs if np.any(run.workload == workload.index)]
        found[workload.name] = _seen(market, workload.index, mine, cells)
    return found


def _seen(market: Market, workload: int, runs: Sequence[tuple[CellKey, CellRun]], cells: Sequence[CellKey]) -> Seen:
    ttft = [run.outcome.ttft_s[(run.workload == workload) & run.scored & run.outcome.served] for _, run in runs]
    tpot = [run.outcome.tpot_s[(run.workload == workload) & run.scored & run.outcome.served] for _, run in runs]
    e2e = [run.outcome.e2e_s[(run.workload == workload) & run.scored & run.outcome.served] for _, run in runs]
    tables = [c for c in cells if isinstance(market.queues[c.queue].template.serving, CapacityServing)]
    given = any(market.demands[s.demand].workload == workload for c in tables for s in c.slices)
    return Seen(
        ttft_ms=percentiles_ms(ttft),
        tpot_ms=percentiles_ms(tpot),
        e2e_ms=percentiles_ms(e2e),
        evidence=_evidence(market, runs, given),
        requests=sum(int(np.count_nonzero((run.workload == workload) & run.scored)) for _, run in runs),
        served=sum(part.size for part in e2e),
    )


def percentiles_ms(parts: Sequence[FloatArray]) -> Percentiles | None:
    """Mean and percentiles in milliseconds over all parts; None without a single finite value."""
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return Percentiles(mean=_rounded(values.mean()), p50=_rounded(p50), p90=_rounded(p90), p99=_rounded(p99))


def _rounded(seconds: float) -> float:
    """Milliseconds to a tenth of a microsecond: what is written is the same on every machine of a kind."""
    return round(ms_from_s(float(seconds)), 4)


def _evidence(market: Market, runs: Sequence[tuple[CellKey, CellRun]], given: bool) -> FigureEvidence:
    total = EvidenceShares(seconds={})
    note = ""
    for cell, run in runs:
        serving = market.queues[cell.queue].template.serving
        if isinstance(serving, LlmServing):
            total = total.plus(step_evidence(serving.table, run.outcome))
        else:
            total = total.plus(EvidenceShares.of(Evidence.MEASURED, float(run.outcome.busy_s)))
            note = "from the latency table of the spec"
    if given:
        total = total.plus(EvidenceShares.of(Evidence.MEASURED, 1.0 if not total.seconds else 0.0))
        note = "the rate of the spec's capacity table, not simulated"
    return FigureEvidence(
        headline=total.headline,
        shares={e: round(f, 6) for e, f in total.fractions.items()},
        note=note,
    )


def step_evidence(table: StepTable, outcome: Outcome) -> EvidenceShares:
    """Seconds of the simulated steps in each class of evidence, by the evidence of the table's components."""
    total = EvidenceShares(seconds={})
    for component in Component:
        spent = float(outcome.component_s[component])
        fractions = table.component_evidence[component].fractions or {Evidence.FITTED: 1.0}
        total = total.plus(EvidenceShares(seconds={e: f * spent for e, f in fractions.items()}))
    return total
