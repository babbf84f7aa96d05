"""Exports of committed plans, compared whole: a change of any byte shows in review.

After a change that is meant, write them anew and read the difference:

    MUXPLAN_WRITE_GOLDEN=1 python -m pytest tests/golden; git diff tests/golden

The plans themselves are made by `muxplan plan tests/golden/plans/NAME.spec.yaml -o tests/golden/plans/NAME.plan.yaml`.
"""

import os
from pathlib import Path

import pytest

from planner.export.targets import TARGETS, exported_files
from tests.planned import FOLDER, planned

GOLDEN = Path(__file__).parent / "files"
SHOWN = ("chat", "tensor_parallel", "embedding")


def together(files: dict[str, str]) -> str:
    """All files of an export as one text."""
    return "".join(f"===== {name}\n{text}" for name, text in sorted(files.items()))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SHOWN)
def test_export_is_as_committed(name: str, target: str) -> None:
    files, _ = exported_files(planned(name), target, FOLDER)
    path = GOLDEN / f"{name}.{target}.txt"
    if os.environ.get("MUXPLAN_WRITE_GOLDEN"):
        path.write_text(together(files), encoding="utf-8")
    assert together(files) == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {p.name for p in GOLDEN.iterdir()} == {f"{n}.{t}.txt" for n in SHOWN for t in TARGETS}
