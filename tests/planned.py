"""Five varied plans, made by `muxplan plan` from the specs beside them."""

from pathlib import Path

from planner.plan_file import Plan
from planner.plan_io import read_plan

FOLDER = Path(__file__).parent / "golden" / "plans"
PLANS = ("chat", "tensor_parallel", "experts", "embedding", "two_pools")


def planned(name: str) -> Plan:
    """The plan of that name; the files that it names lie in FOLDER."""
    return read_plan(FOLDER / f"{name}.plan.yaml")
