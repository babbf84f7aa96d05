from pathlib import Path

import numpy as np

from planner.pipeline import PlanOptions, plan_spec
from planner.progress import Progress
from planner.replay import Traffic, replay
from planner.spec_load import load_spec
from planner.timeline import timelines
from tests.small_spec import written


def test_little_s_law_holds_over_the_draw(tmp_path: Path) -> None:
    plan = plan_spec(load_spec(written(tmp_path)), PlanOptions(), Progress())
    found = replay(plan, tmp_path, Traffic(draws=1, seed=1, duration_s=300.0, trace=None, workload=None), Progress())
    (line,) = timelines(found)
    # L = λ W, over the whole draw: requests there on average, and how long each one stays.
    there = (line.waiting + line.running).mean()
    stays = np.nansum(line.e2e_ms) / 1e3 / line.at_s[-1]
    assert abs(there - stays) / stays < 0.1
    assert line.waiting.min() >= 0
    assert line.running.min() >= 0


def test_tokens_are_held_while_requests_run(tmp_path: Path) -> None:
    plan = plan_spec(load_spec(written(tmp_path)), PlanOptions(), Progress())
    found = replay(plan, tmp_path, Traffic(draws=1, seed=1, duration_s=60.0, trace=None, workload=None), Progress())
    (line,) = timelines(found)
    assert line.tokens_held[line.running == 0].max() == 0.0
    assert (line.tokens_held[line.running > 0] > 0).all()
    percentiles = found.seen["chat"].ttft_ms
    assert percentiles is not None
    assert abs(np.nanpercentile(line.ttft_ms, 50) - percentiles.p50) < 1e-3
