from pathlib import Path

import pytest

from planner.files import OutputError
from planner.pipeline import PlanOptions, plan_spec
from planner.progress import Progress
from planner.spec_edit import FieldPathError
from planner.spec_load import load_spec
from planner.sweep import REFUSED, Axis, grid, listed, parse_axis, plan_row, plan_variant, sweep_of
from planner.sweep_journal import Journal
from planner.sweep_output import check_output, render_sweep, rows_as_csv, write_rows
from planner.sweep_plot import sweep_plot
from planner.sweep_run import Cancelled, run_sweep
from tests.small_spec import written

RATE = "workloads.chat.traffic.rate_rps"


def test_values_read_as_in_a_spec() -> None:
    assert parse_axis("a.b=1,2.5,1e3,x2,null,[1, 2],bf16") == Axis(
        path="a.b", values=(1, 2.5, 1000.0, "x2", None, [1, 2], "bf16")
    )


@pytest.mark.parametrize("text", ["a", "a=", "=1"])
def test_an_axis_without_values_is_refused(text: str) -> None:
    with pytest.raises(FieldPathError, match="write PATH=VALUE"):
        parse_axis(text)


def test_grid_holds_all_combinations_in_order() -> None:
    axes = [Axis(path="a", values=(1, 2)), Axis(path="b", values=("x", "y"))]
    assert grid(axes) == ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"})
    with pytest.raises(FieldPathError, match="twice"):
        grid([axes[0], axes[0]])
    with pytest.raises(FieldPathError, match="1,000,000 variants"):
        grid([Axis(path=p, values=tuple(range(1000))) for p in "ab"])


def test_a_list_of_variants_is_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(f"{RATE},workloads.chat.slo.ttft_ms\n5,400\n10,\n", encoding="utf-8")
    assert listed(tmp_path / "v.csv") == (
        {RATE: 5, "workloads.chat.slo.ttft_ms": 400},
        {RATE: 10, "workloads.chat.slo.ttft_ms": None},
    )


def test_a_row_says_what_the_plan_says(tmp_path: Path) -> None:
    loaded = load_spec(written(tmp_path))
    row = plan_variant(loaded, {RATE: 10}, PlanOptions(workers=1))
    plan = plan_spec(loaded, PlanOptions(workers=1), Progress())
    assert row == {RATE: 10, **plan_row(plan)}
    assert row["cost_usd_per_hour"] == plan.cost_usd_per_hour
    assert row["attainment.chat"] == plan.workloads["chat"].attainment


def test_what_cannot_be_planned_is_a_row_and_a_bad_value_is_not_begun(tmp_path: Path) -> None:
    loaded = load_spec(written(tmp_path))
    row = plan_variant(loaded, {"models.tiny.architecture": "nothing-1b"}, PlanOptions(workers=1))
    assert row["termination"] == REFUSED
    assert "nothing-1b" in row["reason"]
    with pytest.raises(Exception, match="is text"):
        sweep_of(loaded, [{RATE: 1}, {RATE: "a"}], PlanOptions())
    with pytest.raises(FieldPathError, match="nothing to vary"):
        sweep_of(loaded, [], PlanOptions())


def test_a_stopped_sweep_gives_no_rows_and_goes_on(tmp_path: Path) -> None:
    sweep = sweep_of(load_spec(written(tmp_path)), [{RATE: r} for r in (1, 2, 3)], PlanOptions())
    ran: list[int] = []

    def two(_sweep: object, indices: list[int], cancelled: Cancelled) -> object:
        for index in indices[:2]:
            ran.append(index)
            yield index, {RATE: index + 1, "termination": "optimal", "cost_usd_per_hour": 1.0, "gpus_bought": 1}

    said: list[str] = []
    with Journal(tmp_path / "j", sweep.key()) as journal:
        assert run_sweep(sweep, journal, two, Progress(say=said.append), lambda: False) is None  # type: ignore[arg-type]
        rows = run_sweep(sweep, journal, two, Progress(say=said.append), lambda: False)  # type: ignore[arg-type]
    assert ran == [0, 1, 2]
    assert rows is not None
    assert [row["variant"] for row in rows] == [0, 1, 2]
    assert "2 of 3 variants are there from before" in said


def test_the_key_tells_sweeps_apart(tmp_path: Path) -> None:
    loaded = load_spec(written(tmp_path))
    keys = {sweep_of(loaded, [{RATE: rate}], PlanOptions(seed=seed)).key() for rate in (1, 2) for seed in (0, 1)}
    assert len(keys) == 4


def test_rows_as_files_and_text(tmp_path: Path) -> None:
    sweep = sweep_of(load_spec(written(tmp_path)), [{RATE: 1}, {RATE: 2}], PlanOptions())
    rows = [
        {"variant": 0, RATE: 1, "termination": "optimal", "cost_usd_per_hour": 0.8, "gpus_bought": 1},
        {"variant": 1, RATE: 2, "termination": "infeasible", "reason": "a, b"},
    ]
    lines = rows_as_csv(sweep.columns(), rows).splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("1,2,infeasible,,") and lines[2].endswith('"a, b"')
    text = render_sweep(sweep, rows)
    assert "2 variants: 1 infeasible, 1 optimal" in text
    assert max(map(len, text.splitlines())) <= 100
    assert sweep_plot(sweep, rows).count("<circle") == 1
    assert "none has a plan" in sweep_plot(sweep, rows[1:])
    with pytest.raises(OutputError, match=r"\.csv or \.parquet"):
        check_output(tmp_path / "r.txt")
    write_rows(sweep, rows, tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text(encoding="utf-8").splitlines() == lines


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    sweep = sweep_of(load_spec(written(tmp_path)), [{RATE: 1}, {RATE: "x2"}], PlanOptions())
    rows = [
        {"variant": 0, RATE: 1, "termination": "optimal", "cost_usd_per_hour": 0.8},
        {"variant": 1, RATE: "x2", "termination": "infeasible", "cost_usd_per_hour": None},
    ]
    write_rows(sweep, rows, tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet").to_pydict()
    assert list(table) == list(sweep.columns())
    assert table["cost_usd_per_hour"] == [0.8, None]
    assert table[RATE] == ["1", "x2"]
