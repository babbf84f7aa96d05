"""`muxplan check --on simulator`: a plan against fresh draws of its own traffic, or against a trace."""

from pathlib import Path

import pytest
import yaml

from planner import cli
from planner.check.result import CheckResult
from tests.small_spec import SMALL, written

TABLE = """\
models:
  - {name: tiny, architecture: qwen3-0.6b, parallelism: {tp: [1]}, max_model_len: 4096}
  - {name: ranker, latency_table: ranker.csv}
workloads:
  - {name: rank, model: ranker, traffic: {rate_rps: 20.0}, slo: {e2e_ms: 400, attainment: 0.95}}
"""


@pytest.fixture(scope="module")
def plan_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulator")
    rows = "".join(f"l4-24gb,1,1,{batch},0,{0.02 + 0.005 * batch},1000000000\n" for batch in (1, 2, 4))
    (folder / "ranker.csv").write_text("gpu,tp,pp,batch,stage,latency_s,weight_bytes\n" + rows)
    text = TABLE.join((SMALL.split("models:")[0], "  - name: chat" + SMALL.split("  - name: chat")[1]))
    assert cli.main(["plan", str(written(folder, text)), "-o", str(folder / "plan.yaml")]) == 0
    return folder / "plan.yaml"


def checked(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, CheckResult]:
    code = cli.main(["check", str(path), "--on", "simulator", "--json", *options])
    return code, CheckResult.model_validate_json(capsys.readouterr().out)


def test_a_plan_holds_on_fresh_draws_of_its_traffic(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = checked(capsys, plan_path)
    assert code == 0 and found.held and found.level == "simulator" and found.windows == 8
    assert set(found.workloads) == {"chat", "rank"} and found.left_out == ()
    chat = found.workloads["chat"]
    assert set(chat.error_fraction) == {"ttft_ms", "tpot_ms", "e2e_ms", "attainment"}
    # Other draws than those of the plan: alike, and not the same.
    assert all(0 < abs(chat.error_fraction[name]) < 0.1 for name in ("ttft_ms", "tpot_ms", "e2e_ms"))
    assert chat.measured.served_rps == pytest.approx(10.0, rel=0.1)
    assert set(found.workloads["rank"].error_fraction) == {"e2e_ms", "attainment"}
    assert cli.main(["check", str(plan_path), "--on", "simulator", "--windows", "2"]) == 0
    text = capsys.readouterr().out
    assert "on the simulator: the plan held" in text and max(map(len, text.splitlines())) <= 100


def test_a_plan_that_promises_too_much_fails_and_names_the_workload(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(plan_path.read_text())
    for latency in ("tpot_ms", "e2e_ms"):
        data["workloads"]["chat"][latency] = {k: v / 2 for k, v in data["workloads"]["chat"][latency].items()}
    wrong = plan_path.parent / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(data))
    code, found = checked(capsys, wrong)
    assert code == 1 and not found.held
    assert any("TPOT p50" in why for why in found.workloads["chat"].why) and found.workloads["rank"].held


def test_a_busier_trace_misses_what_the_plan_promises(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{number * 0.004:.4f},900,200\n" for number in range(4000))
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    code, found = checked(capsys, plan_path, "--trace", str(trace), "--workload", "chat")
    assert code == 1 and found.windows == 1 and found.workloads["chat"].requests == 4000
    assert any("the target is 95.00%" in why for why in found.workloads["chat"].why)


def test_the_draws_of_the_plan_itself_prove_nothing(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(plan_path), "--on", "simulator", "--seed", "0"]) == 2
    assert "name another one with --seed" in capsys.readouterr().err
    assert cli.main(["check", str(plan_path), "--on", "simulator", "--group", "g"]) == 2
    assert "--group is for --on vllm or --on kernels or --endpoint" in capsys.readouterr().err
