"""A user's measured runs become terms that estimates and plans take."""

import csv
import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from planner.calibrate_runs import calibrate_runs, read_runs
from planner.cli import main
from planner.estimate import Estimator
from planner.estimate_rows import RowError
from planner.files import atomic_write_yaml
from planner.measured_runs import RunsError
from planner.question import Question
from profiles.calibration import Calibration, Correction, load_calibration
from profiles.catalogue_files import Provenance
from profiles.engines import load_engine
from profiles.errors import ProfileError
from profiles.models import load_model
from tests.small_spec import SMALL
from tests.small_spec import written as written_spec

COLUMNS = ("model", "gpu", "tp", "pp", "ep", "quantization", "input_tokens", "output_tokens", "concurrency")
QUESTION = Question(model="llama-3.1-8b", gpu="h100-sxm-80gb", input_tokens=512, output_tokens=64, concurrency=4)
SLOWER = 1.3


def written(
    folder: Path, *measured: tuple[str, str, str], header: tuple[str, ...] = (*COLUMNS, "ttft_ms", "tpot_ms")
) -> Path:
    """Runs of QUESTION's deployment: (concurrency, TTFT, TPOT)."""
    path = folder / "runs.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for clients, ttft, tpot in measured:
            writer.writerow(("llama-3.1-8b", "h100-sxm-80gb", 1, 1, 1, "", 512, 64, clients, ttft, tpot)[: len(header)])
    return path


def predicted(calibration: Calibration | None, **other: int) -> tuple[float, float]:
    """(mean TTFT, mean TPOT) of QUESTION with other fields."""
    fields: dict[str, Any] = dict(other)
    found = Estimator(calibration).answer(replace(QUESTION, **fields))
    assert found.ttft_ms is not None and found.tpot_ms is not None
    return found.ttft_ms.mean, found.tpot_ms.mean


@pytest.fixture(scope="module")
def slower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that took SLOWER times as long as predicted."""
    rows = []
    for clients in (2, 4, 16):
        ttft, tpot = predicted(None, concurrency=clients)
        rows.append((str(clients), f"{ttft * SLOWER}", f"{tpot * SLOWER}"))
    return written(tmp_path_factory.mktemp("runs"), *rows)


@pytest.fixture(scope="module")
def calibration(slower: Path) -> Calibration:
    return calibrate_runs(read_runs(slower, "vllm"), "vllm", "runs.csv")


def test_runs_of_one_deployment_become_one_set_of_terms(calibration: Calibration) -> None:
    (one,) = calibration.terms
    assert (one.gpu, one.quantization, one.runs) == ("h100-sxm-80gb", "bf16", 3)
    assert calibration.engine == "vllm" and "runs.csv" in calibration.sources[0].source


def test_other_loads_and_layouts_of_the_deployment_are_corrected(calibration: Calibration) -> None:
    others: tuple[dict[str, int], ...] = ({"concurrency": 8}, {"tp": 2})
    for other in others:
        before, after = predicted(None, **other), predicted(calibration, **other)
        assert 1.1 * before[1] < after[1] < 1.6 * before[1]
        assert after[0] > before[0]


def test_the_breakdown_and_what_was_assumed_follow_the_calibration(calibration: Calibration) -> None:
    before, after = Estimator().answer(QUESTION), Estimator(calibration).answer(QUESTION)
    overhead = [{name: s for name, s, _ in x.breakdown}["engine per step"] for x in (before, after)]
    assert overhead[1] == calibration.terms[0].terms.overhead_s > overhead[0]
    assert any("for models left out of their fit they were" in line for line in before.assumptions)
    assert any("fitted on the runs of the calibration" in line for line in after.assumptions)


def test_a_correction_of_a_check_is_taken_too() -> None:
    model = load_model(QUESTION.model)
    slow = Correction(
        gpu=QUESTION.gpu,
        model_digest=model.digest,
        quantization=model.dtype,
        tp=1,
        pp=1,
        ep=1,
        step_factor=2.0,
        request_s=0.05,
        requests=9,
    )
    source = Provenance(source="a check", date=datetime.date(2026, 11, 21))
    calibration = Calibration(engine="vllm", corrections=(slow,), sources=(source,))
    before, after = Estimator().answer(QUESTION), Estimator(calibration).answer(QUESTION)
    assert before.tpot_ms is not None and after.tpot_ms is not None
    assert after.tpot_ms.mean == pytest.approx(2 * before.tpot_ms.mean, rel=0.05)
    total = [sum(seconds for _, seconds, _ in x.breakdown) for x in (before, after)]
    assert total[1] == pytest.approx(2 * total[0])
    assert after.evidence is not None and after.evidence.headline == "fitted"


def test_other_models_and_gpus_are_not(calibration: Calibration) -> None:
    for question in (
        Question(model="mistral-7b", gpu="h100-sxm-80gb", input_tokens=64, output_tokens=8, concurrency=1),
        Question(model="llama-3.1-8b", gpu="h200-sxm-141gb", input_tokens=64, output_tokens=8, concurrency=1),
        Question(
            model="llama-3.1-8b",
            gpu="h100-sxm-80gb",
            quantization="fp8",
            input_tokens=64,
            output_tokens=8,
            concurrency=1,
        ),
    ):
        assert Estimator(calibration).answer(question) == Estimator().answer(question)


def test_the_command_writes_what_estimate_and_plan_take(slower: Path, tmp_path: Path) -> None:
    target, out = tmp_path / "calibration.yaml", tmp_path / "out.csv"
    assert main(["calibrate", str(slower), "-o", str(target)]) == 0
    assert load_calibration(target).terms[0].runs == 3
    assert main(["estimate", "--from", str(slower), "-o", str(out), "--calibration", str(target)]) == 0
    with out.open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    with slower.open(newline="", encoding="utf-8") as stream:
        measured = list(csv.DictReader(stream))
    for row, run in zip(found, measured, strict=True):
        assert float(row["tpot_ms"]) == pytest.approx(float(run["tpot_ms"]), rel=0.1)


def test_a_calibration_of_another_engine_is_refused(calibration: Calibration) -> None:
    with pytest.raises(ProfileError, match="made with the engine other, the question is about vllm"):
        Estimator(calibration.model_copy(update={"engine": "other"})).answer(QUESTION)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("4", "", "5"), r"runs\.csv:2: ttft_ms is empty"),
        (("4", "5", " "), r"runs\.csv:2: tpot_ms is empty"),
        (("4", "-1", "5"), r"runs\.csv:2: ttft_ms: -1 is not a positive number"),
        (("4", "5", "nan"), r"runs\.csv:2: tpot_ms: nan is not a positive number"),
        (("4.5", "5", "5"), r"runs\.csv:2: concurrency: 4.5 is not a whole number"),
    ],
)
def test_a_wrong_row_is_named(row: tuple[str, str, str], words: str, tmp_path: Path) -> None:
    with pytest.raises((RunsError, RowError), match=words):
        read_runs(written(tmp_path, row), "vllm")


def test_a_file_without_measurements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunsError, match="the column ttft_ms is missing"):
        read_runs(written(tmp_path, ("4", "1", "1"), header=COLUMNS), "vllm")
    with pytest.raises(RunsError, match="has no rows"):
        read_runs(written(tmp_path), "vllm")


def test_a_calibration_that_says_nothing_is_refused(calibration: Calibration) -> None:
    data = yaml.safe_load(yaml.safe_dump(calibration.model_dump(mode="json")))
    with pytest.raises(ValidationError, match="needs terms or corrections"):
        Calibration.model_validate({**data, "terms": []})


def test_a_check_needs_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path / "check.json"), "-o", str(tmp_path / "c.yaml")]) == 2
    assert "needs --plan PLAN" in capsys.readouterr().err


def test_runs_of_an_engine_of_ones_own_calibrate_its_estimates_and_plans(slower: Path, tmp_path: Path) -> None:
    own = tmp_path / "ours.yaml"
    atomic_write_yaml(own, load_engine("vllm").model_copy(update={"name": "our-vllm"}))
    found = calibrate_runs(read_runs(slower, str(own)), str(own), "runs.csv")
    assert found.engine == "our-vllm"
    assert Estimator(found).answer(replace(QUESTION, engine=str(own))).status == "ok"
    atomic_write_yaml(tmp_path / "calibration.yaml", found)
    named = "name: small\nengine: ./ours.yaml\ncalibration: ./calibration.yaml"
    spec = written_spec(tmp_path, SMALL.replace("name: small", named, 1))
    assert main(["plan", str(spec)]) == 0
