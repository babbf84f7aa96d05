"""The errors in docs/kernels.md are those of the shipped tables."""

from pathlib import Path

import pytest

from profiles.gpus import load_gpu
from profiles.kernel_store import TableError, read_index, tables_folder
from tests.sister_error import sister_error

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
GPUS = ("h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "a100-sxm-80gb", "l40s-48gb")


def shown(error: TableError | None) -> str:
    """A cell of the page."""
    assert error is not None
    return f"{100 * error.median_error_fraction:.1f} / {100 * error.p90_error_fraction:.1f}"


def rows_after(heading: str) -> dict[str, list[str]]:
    """The rows of the first table after a sentence, by what their first cell says."""
    block = PAGE.read_text(encoding="utf-8").split(heading)[1].split("\n\n")[1]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize(("heading", "field"), [("Points left out", "left_out"), ("Shapes left out", "unseen_shape")])
def test_errors_on_what_was_left_out(heading: str, field: str) -> None:
    rows = rows_after(heading)
    assert tuple(rows.pop("kernel")) == GPUS
    rows = {kind: row for kind, row in rows.items() if not kind.startswith("-")}
    assert len(rows) >= 5
    for kind, row in rows.items():
        for gpu, cell in zip(GPUS, row, strict=True):
            folder = tables_folder(load_gpu(gpu))
            assert folder is not None
            assert cell == shown(getattr(read_index(folder).tables[kind], field)), (kind, gpu)


def test_errors_of_borrowed_curves() -> None:
    block = PAGE.read_text(encoding="utf-8").split("A GPU without tables borrows")[1].split("\n\n")[1]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()]
    header, rows = cells[0], cells[2:]
    assert [(row[0], row[1]) for row in rows] == [(gpu, sister) for gpu in GPUS for sister in GPUS]
    for row in rows:
        errors = sister_error(load_gpu(row[0]), load_gpu(row[1]))
        assert row[2:] == [shown(errors[kind]) for kind in header[2:]], row[:2]
