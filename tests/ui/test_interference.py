"""The heat map of measured interference: its figures are those of the file, or of its model and said to be."""

import datetime
import itertools
from pathlib import Path

import pytest
import yaml
from streamlit.testing.v1 import AppTest

from profiles.catalogue_files import Provenance
from profiles.interference import Demand, Interference, Load, Pair, fit_contention, load_name, observations
from tests.ui.test_pages import opened
from ui.interference import heat_rows, seats_of
from ui.session import WORKSPACE_VARIABLE

KERNELS = ("gemm m64", "prefill 1024", "decode 16 x 2048")


def measured(shares: tuple[float, ...] = (0.5, 0.25)) -> Interference:
    """Three kernels that share a GPU by MPS; the last one was never measured beside itself."""
    loads, pairs = {}, []
    for number, share in enumerate(shares):
        rest = 1.0 - share
        for own, (rank, kernel) in itertools.product((share, rest), enumerate(KERNELS)):
            demand = Demand(
                share_fraction=own,
                compute_fraction=round(own * (0.9 - 0.4 * rank), 3),
                bandwidth_fraction=round(own * (0.1 + 0.4 * rank), 3),
            )
            loads[load_name(kernel, "mps", own)] = Load(kernel="gemm", columns={"m": 64}, alone_s=1e-3, demand=demand)
        for (i, a), (j, b) in itertools.product(enumerate(KERNELS), repeat=2):
            if i + j < 4:
                slow = {"first_slowdown": 1.1 + 0.1 * i + number, "second_slowdown": 1.2 + 0.1 * j}
                one, other = load_name(a, "mps", share), load_name(b, "mps", rest)
                pairs.append(Pair(first=one, second=other, spread_fraction=0.0, **slow))
    return Interference(
        gpu="h100-sxm-80gb",
        device="made up",
        sharing=("mps",),
        loads=loads,
        pairs=tuple(pairs),
        contention=fit_contention(observations(loads, pairs)),
        sources=(Provenance(source="a test", date=datetime.date(2026, 11, 21)),),
    )


def stored(folder: Path, found: Interference) -> Path:
    path = folder / "sharing.yaml"
    path.write_text(yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(tmp_path))
    return tmp_path


def charts(app: AppTest) -> int:
    return len(app.get("vega_lite_chart"))


def test_both_directions_of_a_pair_have_a_way_of_their_own() -> None:
    assert seats_of(measured()) == [("mps", 0.25, 0.75), ("mps", 0.5, 0.5), ("mps", 0.75, 0.25)]


def test_a_cell_is_what_was_measured_or_what_the_model_says() -> None:
    found = measured()
    rows = heat_rows(found, ("mps", 0.25, 0.75)).set_index(["kernel", "beside"])
    assert len(rows) == 9
    assert tuple(rows.loc["gemm m64", "prefill 1024"][["slow-down", "known"]]) == (2.1, "measured")
    own, other = (found.loads[load_name(KERNELS[2], "mps", s)] for s in (0.25, 0.75))
    expected = round(found.contention.slowdown(own.demand, [other.demand]), 4)
    assert tuple(rows.loc[KERNELS[2], KERNELS[2]][["slow-down", "known"]]) == (expected, "fitted")
    back = heat_rows(found, ("mps", 0.75, 0.25)).set_index(["kernel", "beside"])
    assert back.loc["prefill 1024", "gemm m64"]["slow-down"] == pytest.approx(1.3)


def test_the_map_of_a_file_of_the_workspace_follows_the_share(workspace: Path) -> None:
    before = charts(opened("profiles"))
    stored(workspace, measured())
    app = opened("profiles")
    assert not app.exception and not app.error
    assert charts(app) == before + 1
    slider = next(s for s in app.select_slider if s.label == "Share of the device")
    assert slider.options == ["25% beside 75%", "50% beside 50%", "75% beside 25%"]
    slider.set_value("50% beside 50%").run()
    assert not app.exception
    assert any("50% beside 50% of the device" in caption.value for caption in app.caption)


def test_without_a_file_the_command_that_makes_one_is_shown(workspace: Path) -> None:
    app = opened("profiles")
    assert any("no measured interference" in info.value for info in app.info)
    assert "muxplan profile interference" in app.code[0].value


def test_a_damaged_file_is_told(workspace: Path) -> None:
    path = stored(workspace, measured())
    path.write_text(path.read_text(encoding="utf-8").replace("first_slowdown: 1.1", "first_slowdown: -1.1"))
    app = opened("profiles")
    assert not app.exception
    assert "first_slowdown" in app.error[0].value.replace("\\", "")
