from pathlib import Path

import pytest

from planner.plan_file import Relaxation
from planner.relax import change_of
from planner.spec_edit import with_changes
from planner.spec_load import load_spec
from tests.small_spec import SMALL, written

RULES = """\
constraints:
  - {kind: max_gpus, count: 1}
  - {kind: budget, usd_per_hour: 0.5}
  - {kind: avoid, workload: chat, pool: l4}
"""


@pytest.mark.parametrize(
    ("field", "needed", "change"),
    [
        ("constraints[0]", 2.0, ("constraints[0].count", 2)),
        ("constraints[1]", 1.23, ("constraints[1].usd_per_hour", 1.23)),
        ("constraints[2]", 1.0, None),
        ("cluster.pools.l4.max_nodes", 7.0, ("cluster.pools.l4.max_nodes", 7)),
        ("workloads.chat.traffic.rate_rps", 4.5, ("workloads.chat.traffic.rate_rps", 4.5)),
        ("workloads.chat.slo.ttft_ms", 900.0, ("workloads.chat.slo.ttft_ms", 900.0)),
        ("workloads.chat.slo.ttft_ms", None, None),
    ],
)
def test_a_relaxation_is_a_change_that_the_spec_takes(
    tmp_path: Path, field: str, needed: float | None, change: tuple[str, float] | None
) -> None:
    loaded = load_spec(written(tmp_path, SMALL + RULES))
    found = change_of(loaded, Relaxation(what="more", field=field, now=1.0, needed=needed))
    assert found == change
    if found is not None:
        with_changes(loaded, dict([found]))
