"""`muxplan profile import`: from a user's CSV to a step time that was read from it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from planner import cli
from profiles.engines import load_engine
from profiles.evidence import Evidence
from profiles.gpus import load_gpu
from profiles.layer_kernels import stage_kernels
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization
from profiles.step_time import Deployment
from tests.small_spec import SMALL, written

MODEL = load_model("llama-3.1-8b")
SHAPES = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))
TOKENS = (1, 16, 64, 256, 1024, 4096)


def latency_us(m: int, n: int, k: int) -> float:
    """A product at 250 GB/s and 80 TFLOPS, after 20 us."""
    return 20 + 2 * n * k / 2.5e5 + 2 * m * n * k / 8e7


def own_table(path: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> Path:
    """Products (n, k) in microseconds; without others, those of Llama-3.1-8B."""
    lines = ["device,kernel,operand,m,n,k,latency_us"]
    for n, k in shapes:
        lines += [f"MyGPU,gemm,bf16,{m},{n},{k},{latency_us(m, n, k):.3f}" for m in TOKENS]
    file = path / "mine.csv"
    file.write_text("\n".join((*lines, "")))
    return file


def own_gpu(path: Path) -> Path:
    """A GPU like an L4 without tables of its own, as a file."""
    values = load_gpu("l4-24gb").model_dump(mode="json", exclude_none=True, exclude={"sources"})
    file = path / "mygpu.yaml"
    file.write_text(yaml.safe_dump({**values, "name": "mygpu"}))
    return file


def imported(path: Path, file: Path, *more: str) -> int:
    """The exit code of an import of that file for that GPU into `tables`."""
    command = ["profile", "import", "csv", "--system", str(own_gpu(path)), "--from", str(file)]
    return cli.main([*command, "-o", str(path / "tables"), *more])


def test_a_user_s_table_reaches_the_step_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert imported(tmp_path, own_table(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "kernels of mygpu" in out and "gemm: 4 curves, 24 points" in out and "nothing was found amiss" in out
    gpu = load_gpu("l4-24gb").model_copy(update={"name": "mygpu", "kernels": str(tmp_path / "tables")})
    deployment = Deployment(
        model=MODEL, gpu=gpu, engine=load_engine("vllm"), quantization=Quantization.BF16, kv_dtype=KvDtype.BF16
    )
    kernels = {k.name: k for k in stage_kernels(deployment.rank, deployment.stage_layers)}
    at = np.array([64.0])
    assert float(kernels["mlp down"].seconds(at)[0]) == pytest.approx(latency_us(64, 4096, 14336) * 1e-6, rel=1e-4)
    assert kernels["mlp down"].evidence(64) is Evidence.MEASURED
    assert kernels["mlp down"].evidence(100) is Evidence.INTERPOLATED
    assert kernels["norms"].evidence(64) is Evidence.MODELLED


def test_json_has_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = own_table(tmp_path)
    file.write_text(file.read_text() + "MyGPU,gemm,bf16,16,8192,8192,0.5\n")
    assert imported(tmp_path, file, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["tables"]["gemm"]["points"] == 24
    assert [f["rule"] for f in answer["findings"]] == ["faster than roofline"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("MyGPU,gemm,bf16,64,4096,4096", "Other,gemm,bf16,64,4096,4096"),
            "mine.csv, line 10, column device: is 'Other'",
        ),
        (("bf16,64,4096,4096,", "bf16,64,4096,4096,-"), "mine.csv, line 10, column latency_us: must be above 0"),
        (("latency_us", "latency_ms"), "mine.csv, line 1: column latency_us is missing"),
    ],
)
def test_a_faulty_table_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    file = own_table(tmp_path)
    file.write_text(file.read_text().replace(*change))
    assert imported(tmp_path, file) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()


def test_a_table_in_the_wrong_unit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = own_table(tmp_path)
    lines = file.read_text().splitlines()
    in_ms = [lines[0], *(f"{head},{float(us) / 1e3:.5f}" for head, us in (line.rsplit(",", 1) for line in lines[1:]))]
    file.write_text("\n".join((*in_ms, "")))
    assert imported(tmp_path, file) == 2
    assert "the latency's unit or the device is not the one" in capsys.readouterr().err


def test_own_tables_are_followed_to_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    products = ((4096, 1024), (1024, 2048), (6144, 1024), (1024, 3072))
    assert imported(tmp_path, own_table(tmp_path, products)) == 0
    values = yaml.safe_load(own_gpu(tmp_path).read_text())
    shares = []
    for kernels in (None, "./tables"):
        spec = yaml.safe_load(SMALL)
        inline = {**values, "kernels": kernels} if kernels else values
        spec["cluster"]["pools"][0] |= {"gpu": inline, "price_usd_per_gpu_hour": 1.0}
        capsys.readouterr()
        assert cli.main(["plan", str(written(tmp_path, yaml.safe_dump(spec))), "--json"]) == 0
        shares.append(json.loads(capsys.readouterr().out)["workloads"]["chat"]["evidence"]["shares"])
    without, with_tables = shares
    assert "interpolated" not in without and "measured" not in without
    assert with_tables.get("interpolated", 0) + with_tables.get("measured", 0) > 0.1
    assert with_tables["modelled"] < without["modelled"]


def test_a_spec_that_names_no_tables_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = yaml.safe_load(SMALL)
    inline = {**yaml.safe_load(own_gpu(tmp_path).read_text()), "kernels": "./nowhere"}
    spec["cluster"]["pools"][0] |= {"gpu": inline, "price_usd_per_gpu_hour": 1.0}
    assert cli.main(["plan", str(written(tmp_path, yaml.safe_dump(spec)))]) == 2
    err = capsys.readouterr().err
    assert "cluster.pools" in err and "table.yaml cannot be read" in err
