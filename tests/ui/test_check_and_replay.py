"""Checks that run from the page, and replays of uploaded traces."""

import gzip
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from planner.check.check_simulator import check_on_simulator
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.progress import Progress
from planner.replay import Traffic, replay, replay_as_data
from planner.spec_load import load_spec
from tests.small_spec import written
from tests.ui.test_pages import WAIT_S, opened, until, with_plan
from ui.session import WORKSPACE_VARIABLE

TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(
    f"{i * 0.2:.1f},{200 + i},{20 + i % 30}\n" for i in range(300)
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    written(tmp_path)
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_spec(load_spec(written(tmp_path_factory.mktemp("plan"))), PlanOptions(), Progress())


def pressed(app: AppTest, label: str) -> AppTest:
    return next(b for b in app.button if b.label == label).click().run()


def test_a_check_on_the_simulator_says_what_the_command_says(workspace: Path, plan: Plan) -> None:
    traffic = Traffic(draws=3, seed=2, duration_s=None, trace=None, workload=None)
    expected = check_on_simulator(plan, workspace, traffic, 0.2, Progress())
    app = with_plan(opened("export"), workspace, plan)
    app.number_input(key="kept-check-draws").set_value(3).run()
    until(pressed(app, "Check"), lambda a: any("attained %" in t.value for t in a.dataframe))
    assert app.session_state["muxplan"].check_job.result == expected
    (verdict,) = app.success if expected.held else app.error
    assert "the simulator" in verdict.value
    rows = next(t.value for t in app.dataframe if "attained %" in t.value)
    measured = expected.workloads["chat"].measured
    assert measured.tpot_ms is not None
    assert list(rows[""]) == ["predicted", "simulated"]
    assert rows["TPOT p99 ms"][1] == measured.tpot_ms.p99


def test_a_check_with_the_draws_of_the_plan_says_why_not(workspace: Path, plan: Plan) -> None:
    app = with_plan(opened("export"), workspace, plan)
    app.number_input(key="kept-check-seed").set_value(plan.seed).run()
    until(pressed(app, "Check"), lambda a: a.warning)
    assert "was made with the draws of seed 0" in app.warning[0].value


def test_a_check_without_an_engine_says_what_is_missing(
    workspace: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUXPLAN_ENGINE_PYTHON", str(workspace / "nowhere"))
    app = with_plan(opened("export"), workspace, plan)
    app.radio(key="kept-check-on").set_value("vllm").run()
    until(pressed(app, "Check"), lambda a: a.warning)
    assert "make engine" in app.warning[0].value


def test_a_check_that_was_stopped_says_so(workspace: Path, plan: Plan) -> None:
    app = with_plan(opened("export"), workspace, plan)
    app.number_input(key="kept-check-draws").set_value(50).run()
    pressed(app, "Check")
    job = app.session_state["muxplan"].check_job
    job.stop()
    assert job.wait(WAIT_S)
    assert job.result is None and job.error is None
    app.run()
    assert any(caption.value == "Stopped before the end." for caption in app.caption)


@pytest.mark.parametrize("name", ["requests.csv", "requests.csv.gz"])
def test_an_uploaded_trace_is_replayed(workspace: Path, plan: Plan, name: str) -> None:
    content = gzip.compress(TRACE.encode()) if name.endswith(".gz") else TRACE.encode()
    (workspace / name).write_bytes(content)
    traffic = Traffic(draws=8, seed=1, duration_s=None, trace=workspace / name, workload="chat")
    expected = replay_as_data(replay(plan, workspace, traffic, Progress()))["workloads"]["chat"]
    app = with_plan(opened("simulate"), workspace, plan)
    app.file_uploader(key="sim-trace").set_value((name, content, "text/csv")).run()
    assert not app.error
    until(pressed(app, "Simulate"), lambda a: a.dataframe)
    table = app.dataframe[0].value
    assert table["requests"][0] == expected["requests"] == 300
    assert table["TTFT p99 ms"][0] == expected["ttft_ms"]["p99"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.csv", b"arrival_s,input_tokens,output_tokens\n0.0,10,5\n0.5,many,5\n", "bad.csv:3: input_tokens: 'many'"),
        ("bad.csv", b"time,in,out\n0,1,1\n", "bad.csv:1: the first column must be arrival_s"),
        ("bad.csv.gz", b"not gzip at all", "bad.csv.gz cannot be read"),
    ],
)
def test_a_malformed_trace_is_told_with_its_line(
    workspace: Path, plan: Plan, name: str, content: bytes, said: str
) -> None:
    app = with_plan(opened("simulate"), workspace, plan)
    app.file_uploader(key="sim-trace").set_value((name, content, "text/csv")).run()
    until(pressed(app, "Simulate"), lambda a: a.error)
    assert not app.exception
    assert app.error[0].value.replace("\\", "").startswith(said)
