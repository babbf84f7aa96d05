"""Exports of committed plans, compared whole: a change of any byte shows in review.

After a change that is meant, write them anew and read the difference:

    MUXPLAN_WRITE_GOLDEN=1 python -m pytest tests/golden; git diff tests/golden

The plans themselves are made by `muxplan plan tests/golden/plans/NAME.spec.yaml -o tests/golden/plans/NAME.plan.yaml`;
those whose replicas share GPUs are made of them in tests/planned.py.
"""

import os
from pathlib import Path

import pytest

from planner.export.targets import TARGETS, exported_files
from tests.planned import EDITED, FOLDER, planned

GOLDEN = Path(__file__).parent / "files"
SHOWN = [(name, target) for name in ("chat", "tensor_parallel", "embedding") for target in TARGETS]
SHARED = {
    "colocated": ("vllm", "compose", "kubernetes", "dynamo", "triton"),
    "mig": ("kubernetes",),
    "disaggregated": ("vllm", "dynamo"),
}
"""Targets that say something of their own about replicas that share."""
SHOWN += [(name, target) for name in EDITED for target in SHARED[name]]


def together(files: dict[str, str]) -> str:
    """All files of an export as one text."""
    return "".join(f"===== {name}\n{text}" for name, text in sorted(files.items()))


@pytest.mark.parametrize(("name", "target"), SHOWN)
def test_export_is_as_committed(name: str, target: str) -> None:
    files, _ = exported_files(planned(name), target, FOLDER)
    path = GOLDEN / f"{name}.{target}.txt"
    if os.environ.get("MUXPLAN_WRITE_GOLDEN"):
        path.write_text(together(files), encoding="utf-8")
    assert together(files) == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {p.name for p in GOLDEN.iterdir()} == {f"{name}.{target}.txt" for name, target in SHOWN}
