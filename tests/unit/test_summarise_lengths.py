"""Figures of a trace."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from profiles.errors import ProfileError
from profiles.lengths import TraceSummary, load_summary
from profiles.summarise_lengths import TraceRows, _dispersion, _ranks, main, read_trace, summarise_trace

TRACES = Path(__file__).parents[2] / ".." / "shared" / "traces"
PUBLISHED = [
    ("azure_2023_conv.csv.gz", "azure-2023-conversation"),
    ("mooncake_conversation.csv.gz", "mooncake-conversation"),
]


def poisson_rows(seed: int = 3) -> TraceRows:
    rng = np.random.default_rng(seed)
    inputs = rng.integers(1, 2000, 40_000).astype(float)
    return TraceRows(
        arrival_s=np.cumsum(rng.exponential(0.1, 40_000)),
        input_tokens=inputs,
        output_tokens=np.rint(1 + inputs / 10 + rng.integers(0, 50, 40_000)),
    )


def test_figures_of_a_poisson_trace() -> None:
    rows = poisson_rows()
    figures = summarise_trace(rows)
    assert figures["arrivals"]["mean_rps"] == pytest.approx(10, rel=0.02)
    assert figures["arrivals"]["interarrival_cv"] == pytest.approx(1.0, abs=0.03)
    for window in ("1s", "10s", "60s"):
        assert figures["arrivals"][f"dispersion_{window}"] == pytest.approx(1.0, abs=0.35)
    assert figures["input_tokens"]["mean"] == pytest.approx(rows.input_tokens.mean(), abs=0.01)
    assert figures["spearman"] == pytest.approx(stats.spearmanr(rows.input_tokens, rows.output_tokens)[0], abs=1e-4)
    assert len(figures["levels"]) == len(figures["input_tokens"]["quantiles"]) == 41


def test_ranks_share_ties() -> None:
    assert _ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_dispersion_of_even_and_of_lumped_arrivals() -> None:
    assert _dispersion(np.arange(0.5, 100.0), 1) == 0.0
    assert _dispersion(np.repeat(np.arange(0.0, 100.0, 2.0), 4), 1) == pytest.approx(2.0, rel=0.05)


def test_short_traces_are_refused() -> None:
    one = TraceRows(arrival_s=np.zeros(1), input_tokens=np.ones(1), output_tokens=np.ones(1))
    with pytest.raises(ProfileError, match="at least two requests"):
        summarise_trace(one)
    brief = TraceRows(arrival_s=np.array([0.0, 30.0]), input_tokens=np.ones(2), output_tokens=np.ones(2))
    with pytest.raises(ProfileError, match="too short for windows of 60 s"):
        summarise_trace(brief)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("1,5,5\n0.5,5,5\n", "line 3, column arrival_s: is before the line above"),
        ("nan,5,5\n", "line 2, column arrival_s: must be finite"),
        ("1,0,5\n", "line 2, column input_tokens: must be at least 1"),
        ("1,5,2.5\n", "line 2, column output_tokens: must be a whole number"),
    ],
)
def test_bad_traces(rows: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n" + rows, encoding="utf-8")
    with pytest.raises(ProfileError, match=says):
        read_trace(path)


def test_the_command_writes_a_summary_that_loads(tmp_path: Path) -> None:
    rows = poisson_rows()
    trace, out = tmp_path / "t.csv", tmp_path / "t.yaml"
    lines = zip(rows.arrival_s[:3000], rows.input_tokens[:3000], rows.output_tokens[:3000], strict=True)
    text = "".join(f"{a:.4f},{i:.0f},{o:.0f}\n" for a, i, o in lines)
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + text, encoding="utf-8")
    about = ["--name", "mine", "--source", "made", "--licence", "none", "--date", "2026-11-21"]
    main([str(trace), *about, "-o", str(out)])
    summary = TraceSummary.model_validate(yaml.safe_load(out.read_text(encoding="utf-8")))
    assert (summary.name, summary.requests) == ("mine", 3000)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "none.csv"), *about, "-o", str(tmp_path / "none.yaml")])
    assert ended.value.code == 2 and not (tmp_path / "none.yaml").exists()


@pytest.mark.parametrize(("trace", "name"), PUBLISHED)
def test_the_shipped_figures_are_computed_from_the_traces(trace: str, name: str) -> None:
    path = TRACES / trace
    if not path.exists():
        pytest.skip(f"{trace} is not here")
    shipped = load_summary(name).model_dump(mode="json", exclude={"name", "licence", "provenance"})
    assert shipped == summarise_trace(read_trace(path))
