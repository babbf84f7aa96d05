"""A small plan holds on held-out traffic, is not padded, and its bounds are ordered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.cells import CellSimulator, Draws
from planner.pipeline import PlanOptions, plan_spec, prepare
from planner.plan_check import check_plan
from planner.plan_file import Plan
from planner.progress import Progress
from planner.replay import planned_cells
from planner.routing import attainments
from planner.spec_load import Loaded, load_spec
from tests.small_spec import SMALL, written

HELD_OUT_SEED = 4242
DRAWS = 20


def planned(folder: Path, text: str = SMALL) -> tuple[Loaded, Plan]:
    """The spec and its plan."""
    loaded = load_spec(written(folder, text))
    return loaded, plan_spec(loaded, PlanOptions(workers=1), Progress())


def held_out_means(loaded: Loaded, plan: Plan, fewer: str | None = None) -> dict[str, float]:
    """Mean attainment of every workload over held-out draws; with one copy less of the queue `fewer`."""
    market = prepare(loaded, PlanOptions(seed=plan.seed), Progress()).market
    draws = Draws(market.workloads, market.demands, seed=HELD_OUT_SEED, count=DRAWS)
    simulator = CellSimulator(market.queues, market.workloads, draws, 1)
    cells = planned_cells(plan, market)
    if fewer is not None:
        index = next(q.index for q in market.queues if q.id == fewer)
        cells = tuple(replace(c, copies=c.copies - 1) if c.queue == index else c for c in cells)
    return {market.workloads[a.workload].name: a.mean for a in attainments(market, simulator, cells)}


def test_plan_holds_on_held_out_draws(tmp_path: Path) -> None:
    loaded, plan = planned(tmp_path)
    assert check_plan(plan) == []
    for workload in loaded.spec.workloads:
        assert held_out_means(loaded, plan)[workload.name] >= workload.slo.attainment - 0.002


def test_plan_is_not_padded(tmp_path: Path) -> None:
    loaded, plan = planned(
        tmp_path, SMALL.replace("rate_rps: 10.0", "rate_rps: 120.0").replace("max_nodes: 4", "max_nodes: 9")
    )
    copies = {q: sum(g.queue == q for g in plan.groups) for q in {g.queue for g in plan.groups}}
    assert max(copies.values()) > 1
    for queue, count in copies.items():
        if count > 1 and queue not in {s.queue for s in plan.slack}:
            means = held_out_means(loaded, plan, fewer=queue)
            assert any(means[w.name] < w.slo.attainment for w in loaded.spec.workloads)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_nodes: 4", "max_nodes: 8"),
        ("ttft_ms: 800", "ttft_ms: 1600"),
        ("rate_rps: 40.0", "rate_rps: 30.0"),
        ("attainment: 0.95", "attainment: 0.9"),
    ],
)
def test_bound_of_the_relaxed_problem_is_below_the_cost_of_the_tighter(old: str, new: str, tmp_path: Path) -> None:
    tight = SMALL.replace("rate_rps: 10.0", "rate_rps: 40.0")
    cost = planned(tmp_path, tight)[1].cost_usd_per_hour
    bound = planned(tmp_path, tight.replace(old, new))[1].bound_fluid
    assert cost is not None and bound is not None
    assert bound <= cost + 1e-6


def test_evidence_of_a_workload_sums_to_one(tmp_path: Path) -> None:
    plan = planned(tmp_path)[1]
    for result in plan.workloads.values():
        assert np.isclose(sum(result.evidence.shares.values()), 1.0, atol=1e-5)
