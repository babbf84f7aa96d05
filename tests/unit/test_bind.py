"""Which processes a check starts on which of this machine's devices."""

import pytest

from planner.check.bind import bound_launches
from planner.export import vllm
from planner.export.launch import launches_of
from planner.plan_file import Plan
from planner.replicas import apart
from planner.runtime.errors import EngineError
from tests.planned import FOLDER, colocated, disaggregated, edited, mig, planned


def bound(plan: Plan, devices: int = 8, groups: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...], str, int]]:
    """Group, neighbours, devices and port of what is started."""
    launched = launches_of(plan, FOLDER)
    found, _ = bound_launches(launched, devices, node=None, groups=groups, first_port=9000)
    return [
        (b.launch.group.id, b.neighbours, vllm.environment(b.launch)["CUDA_VISIBLE_DEVICES"], b.launch.port)
        for b in found
    ]


@pytest.mark.parametrize("plan", [colocated(), apart(colocated())], ids=["as-written", "apart"])
def test_replicas_of_one_gpu_share_a_device_here_and_know_each_other(plan: Plan) -> None:
    first, second = "talk+code@h200/shared#0", "talk+code@h200/shared#1"
    assert bound(plan) == [
        (f"{first}.0", (f"{first}.1",), "0", 9000),
        (f"{first}.1", (f"{first}.0",), "0", 9001),
        (f"{second}.0", (f"{second}.1",), "1", 9002),
        (f"{second}.1", (f"{second}.0",), "1", 9003),
    ]
    alone = bound(plan, devices=1, groups=(f"{second}.0", f"{second}.1"))
    assert [(name, device) for name, _, device, _ in alone] == [(f"{second}.0", "0"), (f"{second}.1", "0")]
    with pytest.raises(EngineError, match="need 2 devices, this machine has 1"):
        bound(plan, devices=1)


def test_their_shares_go_with_them() -> None:
    launched = launches_of(colocated({"sm_fraction": 2 / 3}, {"sm_fraction": 1 / 3}), FOLDER)
    found, _ = bound_launches(launched, 2, node=None, groups=(), first_port=9000)
    assert [vllm.environment(b.launch)["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] for b in found] == ["66", "33"] * 2


def test_dedicated_groups_that_name_one_gpu_share_a_device() -> None:
    plan = planned("shared")
    same = tuple(g.model_copy(update={"gpu_ids": plan.groups[0].gpu_ids}) for g in plan.groups[:2])
    routes = {
        name: [{"group": g.id, "weight_fraction": 1.0} for g in same if g.replicas[0].model == name][:1]
        for name in plan.routes
    }
    found = bound(edited(plan, groups=same, routes=routes))
    assert [(neighbours, device) for _, neighbours, device, _ in found] == [((same[1].id,), "0"), ((same[0].id,), "0")]
    launched = launches_of(edited(plan, groups=same, routes=routes), FOLDER)
    assert all("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE" not in vllm.environment(one) for one in launched.launches)


def test_what_does_nothing_alone_is_not_started() -> None:
    with pytest.raises(EngineError, match="is disaggregated and answers behind a proxy only"):
        bound(disaggregated())
    with pytest.raises(EngineError, match="runs on a MIG instance, whose UUID the plan does not know"):
        bound(mig())
