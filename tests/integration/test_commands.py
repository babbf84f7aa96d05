"""The commands as a user calls them: exit codes, output, files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from planner import cli
from planner.files import atomic_write_yaml
from planner.plan_check import check_plan
from planner.plan_io import plan_to_yaml, read_plan
from profiles.engines import load_engine
from tests.small_spec import SMALL, written


@pytest.fixture(scope="module")
def plan_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    path = folder / "plan.yaml"
    assert cli.main(["plan", str(written(folder)), "-o", str(path)]) == 0
    return path


def test_plan_is_written_and_sound(plan_path: Path) -> None:
    plan = read_plan(plan_path)
    assert plan.verified is not None and plan.verified.held
    assert plan.wall_s is None
    assert check_plan(plan) == []


def test_same_spec_and_seed_give_the_same_bytes(plan_path: Path, tmp_path: Path) -> None:
    again = tmp_path / "plan.yaml"
    assert cli.main(["plan", str(written(tmp_path)), "-o", str(again)]) == 0
    assert again.read_bytes() == plan_path.read_bytes()


def test_json_is_one_object_on_stdout_and_progress_is_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", str(written(tmp_path)), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["wall_s"]
    assert "round 1" in err


def test_text_keeps_to_100_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["plan", str(written(tmp_path))])
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 100
    assert "\x1b" not in out


def test_no_plan_is_exit_1_and_says_what_would_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SMALL.replace("tpot_ms: 60", "tpot_ms: 1"))
    assert cli.main(["plan", str(path)]) == 1
    out = capsys.readouterr().out
    assert "TPOT of chat must be at least" in out and "no number of replicas helps" in out


def test_tight_budget_names_a_budget_that_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SMALL + "constraints:\n  - {kind: budget, usd_per_hour: 0.01}\n"
    assert cli.main(["plan", str(written(tmp_path, text)), "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    needed = next(r["needed"] for r in plan["relaxations"] if r["sufficient"])
    assert cli.main(["plan", str(written(tmp_path, text.replace("0.01", str(needed))))]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "missing.yaml"],
        ["plan", "spec.yaml", "--solver", "nosuch"],
        ["simulate", "spec.yaml"],
        ["export", "spec.yaml", "--to", "vllm", "-o", "out"],
        ["estimate", "--model", "llama-3.1-8b", "--gpu", "h100"],
        ["estimate", "--model", "lama-3.1-8b", "--gpu", "l4-24gb", "--input", "9", "--output", "9", "--rate", "1"],
        ["estimate", "--from", "missing.csv", "-o", "out.csv"],
        ["diff", "spec.yaml", "spec.yaml"],
    ],
)
def test_bad_input_is_exit_2_and_one_sentence(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "muxplan: " in err and "Traceback" not in err


def test_simulate_on_other_traffic(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", str(plan_path), "--json", "--draws", "4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["workloads"]["chat"]["attainment"] >= 0.95 - 0.002
    assert found["requests_per_wall_s"] > 0


def test_simulate_replays_a_trace(plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{i * 0.2:.1f},{200 + i % 50},{40 + i % 20}\n" for i in range(300))
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    assert cli.main(["simulate", str(plan_path), "--trace", str(trace), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workloads"]["chat"]["requests"] == 300


def test_simulate_refuses_a_plan_without_figures_of_a_workload(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load(plan_path.read_text())
    data |= {"workloads": {}, "routes": {}}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(data))
    assert cli.main(["simulate", str(other)]) == 2
    assert "has no figures of chat" in capsys.readouterr().err


def test_explain_and_diff(plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", str(plan_path)]) == 0
    assert "chat: " in capsys.readouterr().out
    changed = yaml.safe_load(plan_path.read_text())
    changed["cost_usd_per_hour"] = 99.0
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(changed))
    assert cli.main(["diff", str(plan_path), str(other)]) == 0
    assert "→ 99.00 USD/h" in capsys.readouterr().out
    assert cli.main(["diff", str(plan_path), str(plan_path)]) == 0
    assert capsys.readouterr().out == "the plans are the same\n"


def test_estimate_agrees_between_one_and_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["--model", "qwen3-0.6b", "--gpu", "l4-24gb", "--input", "200", "--output", "50", "--concurrency", "4"]
    assert cli.main(["estimate", *one, "--json"]) == 0
    single = json.loads(capsys.readouterr().out)
    rows = tmp_path / "rows.csv"
    head = "model,gpu,tp,pp,ep,quantization,input_tokens,output_tokens,concurrency\n"
    rows.write_text(head + "qwen3-0.6b,l4-24gb,1,1,1,,200,50,4\nllama-3.1-70b,l4-24gb,1,1,1,bf16,200,50,4\n")
    out = tmp_path / "out.csv"
    assert cli.main(["estimate", "--from", str(rows), "-o", str(out)]) == 0
    answered, refused = out.read_text().splitlines()[1:]
    assert f",{single['ttft_ms']['mean']}," in answered
    assert ",refused," in refused and "does not fit" in refused


def test_a_bad_row_names_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    head = "model,gpu,tp,pp,ep,quantization,input_tokens,output_tokens,concurrency\n"
    rows.write_text(head + "qwen3-0.6b,l4-24gb,1,1,1,,200,50,4\nqwen3-0.6b,l4-24gb,1,1,1,,nan,50,4\n")
    assert cli.main(["estimate", "--from", str(rows), "-o", str(tmp_path / "o.csv")]) == 2
    assert "rows.csv:3" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("kind", ["gpus", "models", "engines", "lengths"])
def test_catalogue(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["catalogue", kind, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert cli.main(["catalogue", kind]) == 0


def test_plan_survives_a_reader_that_goes_away(plan_path: Path) -> None:
    command = f"{sys.executable} -m planner.cli explain {plan_path} | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_plan_round_trips(plan_path: Path) -> None:
    plan = read_plan(plan_path)
    assert plan_to_yaml(plan) == plan_path.read_text(encoding="utf-8")


def test_an_engine_of_ones_own_goes_with_the_spec_and_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found from the spec's folder, wherever the command runs; from the plan's folder later."""
    specs, plans = tmp_path / "specs", tmp_path / "plans"
    specs.mkdir()
    plans.mkdir()
    monkeypatch.chdir(tmp_path)
    engine = load_engine("vllm").model_copy(update={"name": "our-vllm", "version": "0.99"})
    atomic_write_yaml(specs / "ours.yaml", engine)
    spec = written(specs, SMALL.replace("name: small", "name: small\nengine: ./ours.yaml", 1))
    assert cli.main(["plan", str(spec), "-o", str(plans / "plan.yaml")]) == 0
    assert read_plan(plans / "plan.yaml").engine == "our-vllm"
    assert cli.main(["simulate", str(plans / "plan.yaml"), "--draws", "2", "--json"]) == 0
    assert cli.main(["export", str(plans / "plan.yaml"), "--to", "compose", "-o", str(tmp_path / "out")]) == 0
    texts = [path.read_text() for path in (tmp_path / "out").glob("*.yaml")]
    assert any("vllm/vllm-openai:v0.99" in text for text in texts)
    (specs / "ours.yaml").unlink()
    capsys.readouterr()
    assert cli.main(["plan", str(spec)]) == 2
    assert "ours.yaml" in capsys.readouterr().err
