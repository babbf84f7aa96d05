"""The page on accuracy lists the columns that are read, and its figures are those of the engine's file."""

from pathlib import Path

from planner.calibrate_runs import MEASURED
from planner.estimate_rows import OPTIONAL, REQUIRED
from profiles.engines import load_engine

PAGE = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """The first cells of the rows of the first table after a heading."""
    block = PAGE.split(heading)[1].split("\n\n| ")[1].split("\n\n")[0]
    return [line.strip("|").split("|")[0] for line in block.splitlines()[2:]]


def test_every_column_is_on_the_page() -> None:
    names = " ".join(first_cells("## Your own runs")).replace("`", " ").replace(",", " ").replace(" or ", " ").split()
    assert sorted(names) == sorted((*REQUIRED, *OPTIONAL, *MEASURED))


def test_the_error_on_models_left_out_is_that_of_the_engine_s_file() -> None:
    fit = load_engine("vllm").step_terms[-1].fit
    assert fit is not None
    row = next(line for line in PAGE.splitlines() if line.startswith("| model left out |"))
    runs, tpot, ttft = (cell.strip() for cell in row.strip("|").split("|")[1:])
    assert runs == str(fit.runs)
    assert tpot == f"{100 * fit.tpot_median_error_fraction:.1f} / {100 * fit.tpot_p90_error_fraction:.1f}"
    assert ttft == f"{100 * fit.ttft_median_error_fraction:.1f} / {100 * fit.ttft_p90_error_fraction:.1f}"
