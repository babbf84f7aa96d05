"""The loop on the page on checking is the one that the engine tests go through."""

from pathlib import Path

from planner.check.compare import ATTAINMENT_POINTS, TOLERANCES
from tests.engine.pair import SPEC

PAGE = (Path(__file__).parents[2] / "docs" / "checking.md").read_text(encoding="utf-8")


def test_the_spec_of_the_loop_is_shown() -> None:
    assert f"```yaml\n{SPEC}```" in PAGE


def test_the_tolerances_are_those_of_the_check() -> None:
    assert TOLERANCES == {"ttft_ms": 1.5, "tpot_ms": 1.0, "e2e_ms": 1.5} and ATTAINMENT_POINTS == 0.10
    assert "within 1.5 times that" in PAGE and "attainment within 10 points" in PAGE
