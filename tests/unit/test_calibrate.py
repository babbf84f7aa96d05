"""A check is made by the simulator itself, with steps slower than planned: calibration must find by how much."""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.calibrate import DOUBT_REQUESTS, calibrate
from planner.check.compare import llm_cell
from planner.check.load import plan_load
from planner.check.result import CheckResult, GroupCheck, Requests
from planner.mix_build import Market
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.progress import Progress
from planner.replay import planned_market
from planner.simulate import simulate_llm
from planner.simulate_types import Requests as Simulated
from planner.spec_load import load_spec
from profiles.calibration import Calibration, DeploymentTerms, corrected
from profiles.catalogue_files import Provenance
from profiles.engines import TermValues
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.models import load_model
from tests.small_spec import SMALL, written

SLOWER, LATER_S = 1.4, 0.03


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Market]:
    folder = tmp_path_factory.mktemp("calibrate")
    plan = plan_spec(load_spec(written(folder)), PlanOptions(draws=2), Progress())
    return plan, planned_market(plan, folder, Progress())


def check_of(plan: Plan, market: Market, seconds: float, *, answered: bool = True) -> CheckResult:
    """What an engine would have given whose steps take SLOWER times as long, LATER_S later."""
    groups = {}
    names = [g.id for g in plan.groups]
    queues = {q.id: q for q in market.queues}
    load = plan_load(plan, market, names, seconds, seed=4)
    for number, group in enumerate(plan.groups):
        cell = llm_cell(queues[group.queue])
        mine = load.of(load.group == number)
        outcome = simulate_llm(
            replace(cell, table=corrected(cell.table, SLOWER, LATER_S)),
            Simulated(
                arrival_s=mine.due_s,
                input_tokens=mine.input_tokens,
                output_tokens=mine.output_tokens,
                cached_tokens=np.zeros_like(mine.input_tokens),
            ),
        )
        seen = [
            tuple(None if np.isnan(v) or not answered else float(v) for v in x)
            for x in (outcome.ttft_s, outcome.tpot_s)
        ]
        groups[group.id] = GroupCheck(
            queue=group.queue,
            model="tiny",
            devices=(0,),
            start_s=1.0,
            kv_tokens_predicted=1,
            kv_tokens_measured=1,
            preemptions=0,
            kv_used_peak_fraction=0.0,
            waiting_peak=0,
            requests=Requests(
                due_s=tuple(mine.due_s.tolist()),
                input_tokens=tuple(mine.input_tokens.tolist()),
                output_tokens=tuple(mine.output_tokens.tolist()),
                ttft_s=seen[0],
                tpot_s=seen[1],
            ),
        )
    return CheckResult(
        plan=plan.name,
        spec_digest=plan.spec_digest,
        level="vllm",
        engine="vllm 0",
        tolerance_fraction=0.2,
        seed=4,
        duration_s=seconds,
        windows=1,
        workloads={},
        groups=groups,
        held=False,
    )


def test_what_was_slower_is_found_and_shrunk_towards_nothing(planned: tuple[Plan, Market]) -> None:
    plan, market = planned
    check = check_of(plan, market, 60.0)
    (found,) = calibrate(check, market, plan.engine).corrections
    requests = sum(len(g.requests.due_s) for g in check.groups.values())
    belief = requests / (requests + DOUBT_REQUESTS)
    assert found.requests == requests > 300
    assert found.step_factor == pytest.approx(SLOWER**belief, rel=0.01)
    assert found.request_s == pytest.approx(LATER_S * belief, rel=0.1)


def test_few_requests_move_it_less(planned: tuple[Plan, Market]) -> None:
    plan, market = planned
    (many,) = calibrate(check_of(plan, market, 60.0), market, plan.engine).corrections
    (few,) = calibrate(check_of(plan, market, 1.0), market, plan.engine).corrections
    assert 1.0 < few.step_factor < many.step_factor < SLOWER


def test_the_next_plan_takes_it_and_says_that_it_is_fitted(planned: tuple[Plan, Market], tmp_path: Path) -> None:
    plan, market = planned
    found = calibrate(check_of(plan, market, 60.0), market, plan.engine)
    (tmp_path / "c.yaml").write_text(found.model_dump_json())
    spec = written(tmp_path, SMALL.replace("name: small", "name: small\ncalibration: c.yaml", 1))
    again = plan_spec(load_spec(spec), PlanOptions(draws=2), Progress())
    before, after = plan.workloads["chat"], again.workloads["chat"]
    assert before.tpot_ms is not None and after.tpot_ms is not None
    assert after.tpot_ms.p50 > 1.2 * before.tpot_ms.p50
    assert after.evidence.headline == "fitted"
    # A check of that plan corrects on top of what is in force.
    market = planned_market(again, tmp_path, Progress())
    (twice,) = calibrate(check_of(again, market, 60.0), market, again.engine).corrections
    assert twice.step_factor == pytest.approx(found.corrections[0].step_factor ** 2, rel=0.05)


def test_a_check_that_measured_nothing_corrects_nothing(planned: tuple[Plan, Market]) -> None:
    plan, market = planned
    with pytest.raises(ProfileError, match="nothing to calibrate with"):
        calibrate(check_of(plan, market, 10.0, answered=False), market, plan.engine)


def test_absurd_corrections_are_refused(planned: tuple[Plan, Market]) -> None:
    plan, market = planned
    data = calibrate(check_of(plan, market, 10.0), market, plan.engine).model_dump()
    for field, value in (("step_factor", 0.0), ("step_factor", float("nan")), ("request_s", 1e9), ("tp", 0)):
        broken = {**data, "corrections": [{**data["corrections"][0], field: value}]}
        with pytest.raises(ValueError, match=field):
            Calibration.model_validate(broken)


def test_terms_from_runs_reach_the_plan_and_a_check_keeps_them(planned: tuple[Plan, Market], tmp_path: Path) -> None:
    plan, _ = planned
    model = load_model("qwen3-0.6b")
    terms = DeploymentTerms(
        gpu="l4-24gb",
        model_digest=model.digest,
        quantization=model.dtype,
        terms=TermValues(overhead_s=0.009, prefill_factor=1.2, prefill_floor_s_per_layer=0.001),
        runs=3,
    )
    source = Provenance(source="runs of a test", date=datetime.date(2026, 11, 21))
    calibration = Calibration(engine="vllm", terms=(terms,), sources=(source,))
    (tmp_path / "c.yaml").write_text(calibration.model_dump_json())
    spec = written(tmp_path, SMALL.replace("name: small", "name: small\ncalibration: c.yaml", 1))
    again = plan_spec(load_spec(spec), PlanOptions(draws=2), Progress())
    before, after = plan.workloads["chat"], again.workloads["chat"]
    assert before.tpot_ms is not None and after.tpot_ms is not None
    assert after.tpot_ms.p50 > before.tpot_ms.p50 + 5
    assert after.evidence.shares[Evidence.FITTED] > before.evidence.shares[Evidence.FITTED]
    market = planned_market(again, tmp_path, Progress())
    assert calibrate(check_of(again, market, 20.0), market, again.engine).terms == (terms,)
