"""Every page run by Streamlit's own test runner, with real plans of a small spec."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from planner import cli
from planner.export.launch import ExportError
from planner.export.targets import TARGETS, exported_files
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.plan_io import read_plan
from planner.progress import Progress
from planner.spec_load import load_spec
from tests.small_spec import SMALL, written
from ui.session import WORKSPACE_VARIABLE, Saved

PAGES = ("plan", "what-if", "compare", "simulate", "profiles", "export")
WAIT_S = 60.0
TIGHT = SMALL.replace("rate_rps: 10.0", "rate_rps: 900.0") + "constraints:\n  - {kind: max_gpus, count: 1}\n"


def page(name: str) -> None:
    """What the test runner runs: one page of the app."""
    from ui.app import show

    show(name)


def any_page() -> None:
    """What the test runner runs: the page that the session was sent to."""
    import streamlit as st

    from ui.app import show

    show(st.session_state["at"])


def opened(name: str, **query: str) -> AppTest:
    app = AppTest.from_function(page, args=(name,), default_timeout=WAIT_S)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def until(app: AppTest, done: Callable[[AppTest], object]) -> AppTest:
    """The page run again until it shows what is waited for."""
    end = time.monotonic() + WAIT_S
    while not done(app):
        assert time.monotonic() < end, [element.value for element in app.main if hasattr(element, "value")]
        time.sleep(0.1)
        app.run()
        assert not app.exception
    return app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def solved(app: AppTest) -> bool:
    return "Cost, USD/h" in metrics(app)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that holds the small spec; the session works on it."""
    written(tmp_path)
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    return tmp_path


def planned(app: AppTest) -> AppTest:
    app.button(key="plan-go").click().run()
    return until(app, solved)


def with_plan(app: AppTest, folder: Path, plan: Plan) -> AppTest:
    """The session as it is after planning on another page."""
    app.session_state["muxplan"].plan = Saved(plan=plan, folder=folder)
    return app.run()


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_spec(load_spec(written(tmp_path_factory.mktemp("plan"))), PlanOptions(), Progress())


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_on_an_empty_workspace(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    app = opened(name)
    assert not app.exception
    assert not app.error
    assert app.info or name == "profiles"


def test_the_numbers_are_those_of_the_command_and_of_python(workspace: Path) -> None:
    assert cli.main(["plan", str(workspace / "spec.yaml"), "-o", str(workspace / "out" / "x.yaml")]) == 2
    (workspace / "out").mkdir()
    assert cli.main(["plan", str(workspace / "spec.yaml"), "-o", str(workspace / "out" / "plan.yaml")]) == 0
    command = read_plan(workspace / "out" / "plan.yaml")
    python = plan_spec(load_spec(workspace / "spec.yaml"), PlanOptions(), Progress())
    app = planned(opened("plan"))
    shown = app.session_state["muxplan"].plan.plan
    assert shown == python
    assert command.model_copy(update={"spec": python.spec}) == python
    assert metrics(app)["Cost, USD/h"] == f"{python.cost_usd_per_hour:,.2f}"
    assert metrics(app)["GPUs"] == str(sum(c.bought for c in python.gpu_counts.values()))
    latencies = next(t.value for t in app.dataframe if "TTFT p99 ms" in t.value)
    traffic = next(t.value for t in app.dataframe if "attained %" in t.value)
    result = python.workloads["chat"]
    assert result.ttft_ms is not None and result.attainment is not None
    assert latencies["TTFT p99 ms"][0] == result.ttft_ms.p99
    assert traffic["attained %"][0] == 100 * result.attainment


def test_a_slider_gives_the_plan_that_a_spec_with_that_rate_has(workspace: Path) -> None:
    app = until(opened("what-if"), solved)
    next(s for s in app.slider if s.label == "All traffic ×").set_value(3.0).run()
    until(app, lambda a: solved(a) and not a.session_state["muxplan"].plan_jobs["what-if"].running)
    written(workspace, SMALL.replace("rate_rps: 10.0", "rate_rps: 30.0"))
    expected = plan_spec(load_spec(workspace / "spec.yaml"), PlanOptions(), Progress())
    found = app.session_state["muxplan"].plan_jobs["what-if"].result
    assert found.workloads == expected.workloads
    assert metrics(app)["Cost, USD/h"] == f"{expected.cost_usd_per_hour:,.2f}"


def test_what_matters_most_and_the_front_are_drawn(workspace: Path) -> None:
    app = until(opened("what-if"), solved)
    before = len(app.get("vega_lite_chart"))
    app.button(key="tornado-go").click().run()
    app.button(key="pareto-go").click().run()
    until(app, lambda a: len(a.get("vega_lite_chart")) == before + 2)
    rows = app.session_state["muxplan"].sweep_jobs["tornado"].result
    assert len(rows) == 6
    assert all(row["cost_usd_per_hour"] is not None for row in rows)


def test_no_plan_shows_what_would_help_and_a_click_makes_a_plan(workspace: Path) -> None:
    written(workspace, TIGHT.replace("max_nodes: 4", "max_nodes: 40"))
    app = opened("plan")
    app.button(key="plan-go").click().run()
    until(app, lambda a: any(b.key == "plan-relax-0" for b in a.button))
    assert "There is no plan" in app.error[0].value
    app.button(key="plan-relax-0").click().run()
    until(app, solved)
    assert app.session_state["muxplan"].scenario.changes
    assert json.loads(app.query_params["set"]) == app.session_state["muxplan"].scenario.changes


def test_a_link_carries_the_scenario(workspace: Path) -> None:
    changes = {"workloads.chat.traffic.rate_rps": 25.0}
    app = opened("plan", spec="spec.yaml", set=json.dumps(changes))
    assert app.session_state["muxplan"].scenario.loaded().spec.workloads[0].traffic.rate_rps == 25.0
    app.text_area[0].set_value(SMALL.replace("rate_rps: 10.0", "rate_rps: 7.0")).run()
    next(b for b in app.button if b.label == "Use this text").click().run()
    again = opened("plan", **app.query_params)
    assert again.session_state["muxplan"].scenario.loaded().spec.workloads[0].traffic.rate_rps == 7.0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"spec": "../secret.yaml"}, "outside the workspace"),
        ({"spec": "/etc/passwd"}, "outside the workspace"),
        ({"yaml": "not-base64!"}, "cannot be read"),
        ({"spec": "spec.yaml", "set": "["}, "cannot be read"),
    ],
)
def test_a_bad_link_is_told_and_the_page_goes_on(workspace: Path, query: dict[str, str], said: str) -> None:
    app = opened("plan", **query)
    assert not app.exception
    assert said in app.error[0].value.replace("\\", "")
    assert app.button(key="plan-go")


def test_a_spec_that_is_wrong_is_told_with_its_line(workspace: Path) -> None:
    app = opened("plan")
    app.text_area[0].set_value(SMALL.replace("qwen3-0.6b", "qwen3-0.7b")).run()
    next(b for b in app.button if b.label == "Use this text").click().run()
    assert not app.exception
    assert "models[0].architecture: 'qwen3-0.7b' is not in the catalogue" in app.code[0].value


def test_files_outside_the_workspace_are_not_opened(workspace: Path) -> None:
    (workspace.parent / "outside.csv").write_text("gpu,tp\n", encoding="utf-8")
    app = opened("plan")
    outside = SMALL.replace("architecture: qwen3-0.6b", "latency_table: ../outside.csv")
    app.text_area[0].set_value(outside).run()
    next(b for b in app.button if b.label == "Use this text").click().run()
    assert "names a file outside the workspace" in app.code[0].value


def test_compare_shows_two_plans_and_what_moves(workspace: Path, plan: Plan) -> None:
    app = opened("compare")
    state = app.session_state["muxplan"]
    state.save("first", Saved(plan=plan, folder=workspace))
    dearer = plan.model_copy(update={"cost_usd_per_hour": 2 * (plan.cost_usd_per_hour or 0.0)})
    state.save("second", Saved(plan=dearer, folder=workspace))
    app.run()
    assert not app.exception
    table = app.dataframe[0].value
    assert list(table["plan"]) == ["first", "second"]
    assert table["USD/h"][1] == 2 * table["USD/h"][0]
    assert "cost" in list(app.table[0].value["what"])
    assert len(app.get("vega_lite_chart")) == 3


def test_simulate_says_what_the_command_says(workspace: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    from planner.plan_io import write_plan

    write_plan(plan, workspace / "plan.yaml", workspace)
    cli.main(["simulate", str(workspace / "plan.yaml"), "--json"])
    said = json.loads(capsys.readouterr().out)["workloads"]["chat"]
    app = with_plan(opened("simulate"), workspace, plan)
    next(b for b in app.button if b.label == "Simulate").click().run()
    until(app, lambda a: a.dataframe)
    table = app.dataframe[0].value
    assert table["attained %"][0] == 100 * said["attainment"]
    assert table["TTFT p99 ms"][0] == said["ttft_ms"]["p99"]
    assert len(app.get("vega_lite_chart")) == 5


def test_profiles_take_a_deployment_apart(workspace: Path) -> None:
    app = opened("profiles")
    assert len(app.get("vega_lite_chart")) == 2
    app.button(key="estimate-go").click().run()
    assert not app.exception
    assert float(metrics(app)["TTFT mean, ms"]) > 0
    assert len(app.get("vega_lite_chart")) == 3
    app.selectbox(key="kept-profile-gpu").set_value("l4-24gb").run()
    assert not app.exception
    assert "No kernel was measured on l4-24gb" in app.info[0].value


@pytest.mark.parametrize("target", TARGETS)
def test_export_shows_the_files_that_the_command_writes(workspace: Path, plan: Plan, target: str) -> None:
    app = with_plan(opened("export"), workspace, plan)
    assert app.radio(key="kept-export-target").options == list(TARGETS)
    app.radio(key="kept-export-target").set_value(target).run()
    assert not app.exception and not app.error
    files, _ = exported_files(plan, target, workspace)
    assert app.code[0].value == files[sorted(files)[0]].strip()


def test_a_target_that_cannot_take_a_plan_says_why(workspace: Path, plan: Plan) -> None:
    halves = [
        group.model_copy(
            update={"replicas": tuple(r.model_copy(update={"sm_fraction": 0.5}) for r in 2 * group.replicas)}
        )
        for group in plan.groups
    ]
    shared = plan.model_copy(update={"groups": tuple(halves)})
    app = with_plan(opened("export"), workspace, shared)
    with pytest.raises(ExportError) as reason:
        exported_files(shared, "vllm", workspace)
    assert not app.exception
    assert app.error[0].value.replace("\\", "") == str(reason.value)


def test_fields_stay_as_they_were_set_while_other_pages_are_shown(workspace: Path) -> None:
    app = AppTest.from_function(any_page, default_timeout=WAIT_S)
    app.session_state["at"] = "plan"
    app.run()
    app.number_input(key="kept-plan-seed").set_value(5).run()
    for name in ("profiles", "plan"):
        app.session_state["at"] = name
        app.run()
    assert app.number_input(key="kept-plan-seed").value == 5


def test_a_long_solve_can_be_stopped(workspace: Path) -> None:
    app = opened("plan")
    app.button(key="plan-go").click().run()
    job = app.session_state["muxplan"].plan_jobs["plan"]
    job.stop()
    assert job.wait(WAIT_S)
    app.run()
    assert not app.exception
