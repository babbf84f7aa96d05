from pathlib import Path

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_memory import PlanMemory
from planner.progress import Progress
from planner.spec_edit import with_changes
from planner.spec_load import load_spec
from tests.small_spec import SMALL, written

CHANGES: tuple[dict[str, object], ...] = (
    {},
    {"cluster.pools.l4.price_usd_per_gpu_hour": 1.5},
    {"workloads.chat.slo.ttft_ms": 150},
    {"workloads.chat.traffic.rate_rps": 70},
    {"cluster.pools.l4.max_nodes": 2},
    {},
)


def test_plans_with_a_memory_are_the_plans_without(tmp_path: Path) -> None:
    loaded = load_spec(written(tmp_path, SMALL.replace("rate_rps: 10.0", "rate_rps: 60.0")))
    memory = PlanMemory()
    for change in CHANGES:
        changed = with_changes(loaded, change)
        remembered = plan_spec(changed, PlanOptions(workers=1, memory=memory), Progress())
        assert remembered == plan_spec(changed, PlanOptions(workers=1), Progress())
