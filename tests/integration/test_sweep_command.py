"""`muxplan sweep` as it is used: killed and taken up again, stopped with Ctrl-C, on a Ray cluster."""

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from planner import cli
from tests.small_spec import written

VARY = ["--vary", "workloads.chat.traffic.rate_rps=5,40,80,1000", "--vary", "workloads.*.slo.tpot_ms=x0.8,x1"]


def command(folder: Path, output: str, *more: str) -> list[str]:
    return ["sweep", str(folder / "spec.yaml"), *VARY, "-o", str(folder / output), *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the spec and, undisturbed, its sweep: `whole.csv`."""
    folder = tmp_path_factory.mktemp("sweep")
    written(folder)
    assert cli.main(command(folder, "whole.csv", "--workers", "2")) == 0
    return folder


def stopped_after(folder: Path, output: str, rows: int, sign: signal.Signals) -> tuple[int, str]:
    """Exit code and last words of a sweep that gets a signal once so many rows are done."""
    program = [sys.executable, "-m", "planner.cli", *command(folder, output, "--workers", "2")]
    with subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"{rows}/8 "):
                process.send_signal(sign)
                break
        last = process.stderr.read()
        return process.wait(), last


def test_rows_hold_the_answers(folder: Path) -> None:
    lines = (folder / "whole.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 9
    assert "infeasible" in lines[7]
    assert (folder / "whole.svg").read_text(encoding="utf-8").startswith("<svg")
    assert not (folder / "whole.csv.journal").exists()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_and_taken_up_gives_the_same_file(
    folder: Path, sign: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{sign.name}.csv"
    code, last = stopped_after(folder, output, 3, sign)
    assert code != 0
    if sign is signal.SIGINT:
        assert code == 130
        assert "the same command goes on" in last
    assert not (folder / output).exists()
    assert len((folder / f"{output}.journal").read_text(encoding="utf-8").splitlines()) >= 4
    assert cli.main(command(folder, output, "--json", "--workers", "1")) == 0
    out = capsys.readouterr()
    assert "of 8 variants are there from before" in out.err
    assert (folder / output).read_bytes() == (folder / "whole.csv").read_bytes()
    assert len(json.loads(out.out)["rows"]) == 8


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_ray_cluster_gives_the_same_file(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "planner.cli", *command(folder, "ray.csv", "--ray")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "ray.csv").read_bytes() == (folder / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--vary", "workloads.chat.trafic.rate_rps=1"], "Maybe you meant 'traffic'"),
        (["--vary", "workloads.chat.traffic.rate_rps=a"], "is text where a number is needed"),
        (["--variants", "nowhere.csv"], "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", str(folder / "spec.yaml"), *more, "-o", str(folder / "bad.csv")]) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "bad.csv.journal").exists()
