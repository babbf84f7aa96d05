"""The example's plan on 20 held-out draws, and without one copy of each queue; with the time that planning took."""

import time
from dataclasses import replace
from pathlib import Path

from planner.cells import CellSimulator, Draws
from planner.pipeline import PlanOptions, plan_spec, prepare
from planner.progress import Progress
from planner.replay import planned_cells
from planner.routing import attainments
from planner.spec_load import load_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_fleet.yaml"
HELD_OUT_SEED = 777
DRAWS = 20


def test_the_example_holds_and_is_not_padded() -> None:
    loaded = load_spec(EXAMPLE)
    plan_spec(loaded, PlanOptions(), Progress())  # compiles what is not compiled yet
    start = time.perf_counter()
    plan = plan_spec(loaded, PlanOptions(), Progress())
    print(f"\nplanned in {time.perf_counter() - start:.2f} s: {plan.cost_usd_per_hour} USD/h")  # noqa: T201
    market = prepare(loaded, PlanOptions(), Progress()).market
    draws = Draws(market.workloads, market.demands, seed=HELD_OUT_SEED, count=DRAWS)
    simulator = CellSimulator(market.queues, market.workloads, draws, PlanOptions().workers)
    cells = planned_cells(plan, market)
    for one in attainments(market, simulator, cells):
        name = market.workloads[one.workload].name
        print(f"{name}: {one.mean:.4f} ± {one.standard_error:.4f}, asked {one.target:g}")  # noqa: T201
        assert one.mean >= one.target - 0.002, name
    named = {slack.queue for slack in plan.slack}
    for cell in cells:
        queue = market.queues[cell.queue]
        best_effort = all(market.workloads[market.demands[d].workload].best_effort for d, _ in queue.parts)
        if queue.id in named or best_effort or cell.copies < 2:
            continue
        fewer = tuple(replace(c, copies=c.copies - 1) if c is cell else c for c in cells)
        missed = [a for a in attainments(market, simulator, fewer) if a.mean < a.target]
        print(f"one copy less of {queue.id}: {len(missed)} workloads miss")  # noqa: T201
        assert missed, queue.id
