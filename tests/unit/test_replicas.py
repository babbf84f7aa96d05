"""Groups taken apart into their replicas, and what stands against how replicas share a group's GPUs."""

from typing import Any

import pytest

from planner.group_faults import faults
from planner.plan_file import GpuId, Group, Plan, Replica, Route
from planner.plan_io import PlanFileError
from planner.replicas import apart, members, mig_faults
from profiles.gpus import load_gpu
from tests.hand_plan import REPLICA, changed, group

HALF = REPLICA.model_copy(update={"sm_fraction": 0.5})
ONE = ("fast-0", 0)


def replica(**fields: Any) -> Replica:
    return REPLICA.model_copy(update=fields)


def shared(*replicas: Replica, **fields: Any) -> Group:
    """A group of several replicas on one GPU."""
    changes = {"kind": "colocated", "replicas": replicas, **fields}
    return group("g", "both@pair", "fast", ONE, **changes)


def phases(*roles: str, tp: int = 2, gpus: int | None = None) -> Group:
    """A group of replicas that do one phase each."""
    places = [("fast-0", i) for i in range(tp * len(roles) if gpus is None else gpus)]
    some = tuple(replica(role=role) for role in roles)
    return group("g", "both@pair", "fast", *places, tp=tp, kind="disaggregated", replicas=some)


@pytest.mark.parametrize(
    "sound",
    [
        shared(HALF, HALF),
        shared(HALF, replica(sm_fraction=0.3)),
        shared(replica(sm_fraction=0.3)),
        phases("prefill", "decode"),
        phases("decode", "prefill", "prefill", tp=1),
        group("g", "q@t", "fast", ONE, replicas=(HALF,)),
        group("g", "q@t", "fast", ONE, kind="multiplexed", replicas=(REPLICA, REPLICA)),
    ],
    ids=lambda one: f"{one.kind}-{len(one.replicas)}",
)
def test_sound_groups_have_no_faults(sound: Group) -> None:
    assert list(faults(sound)) == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (
            shared(HALF, replica(sm_fraction=0.6)),
            "g gives out 110% of its GPU: the sm_fraction of its replicas sum to 1.1",
        ),
        (group("g", "q@t", "fast", ONE, ("fast-0", 1), replicas=(HALF,)), "only single GPUs are shared"),
        (group("g", "q@t", "fast", ONE, ("fast-0", 1), kind="colocated", replicas=(HALF, HALF)), "only single GPUs"),
        (shared(HALF, replica(sm_fraction=0.0)), "nothing of its GPU"),
        (shared(HALF, replica(sm_fraction=0.4, mig_profile="3g.71gb")), "in MIG mode gives instances only"),
        (shared(HALF, replica(sm_fraction=0.5, role="decode")), "a replica for decode only: that is disaggregated"),
        (group("g", "q@t", "fast", ONE, replicas=(HALF, HALF)), "g is dedicated and has 2 replicas"),
        (group("g", "q@t", "fast", ONE, replicas=(replica(role="prefill"),)), "a replica for prefill only"),
        (phases("prefill", "prefill"), "has replicas for prefill: prefill and decode both"),
        (phases("prefill", "both"), "has replicas for both and prefill: prefill and decode both"),
        (phases("prefill", "decode", gpus=3), "g has 3 GPUs for tp 2 × pp 1 × 2 replicas"),
    ],
)
def test_odd_groups_are_told(odd: Group, said: str) -> None:
    assert any(said in fault for fault in faults(odd)), list(faults(odd))


def test_phases_run_one_model_on_whole_gpus() -> None:
    several = (phases("prefill", "decode").replicas[0], replica(role="decode", model="other"))
    odd = phases("prefill", "decode").model_copy(update={"replicas": several})
    assert any("runs several models" in fault for fault in faults(odd))
    halves = tuple(one.model_copy(update={"sm_fraction": 0.5}) for one in phases("prefill", "decode", tp=1).replicas)
    odd = phases("prefill", "decode", tp=1).model_copy(update={"replicas": halves})
    assert any("only colocated replicas share" in fault for fault in faults(odd))


def instances(*profiles: str, memory_bytes: int = 1_000_000_000) -> list[Replica]:
    return [replica(mig_profile=profile, memory_bytes=memory_bytes) for profile in profiles]


@pytest.mark.parametrize(
    ("gpu", "profiles", "said"),
    [
        ("h200-sxm-141gb", ["3g.71gb", "4g.71gb"], None),
        ("h200-sxm-141gb", ["1g.18gb"] * 7, None),
        ("h200-sxm-141gb", ["3g.71gb", "2g.35gb", "1g.18gb", "1g.18gb"], None),
        ("h100-sxm-80gb", ["3g.40gb", "3g.40gb"], None),
        ("a100-sxm-40gb", ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"], None),
        ("h200-sxm-141gb", ["1g.18gb"] * 8, "do not fit on one h200-sxm-141gb"),
        # Seven compute slices, but the two larger instances take all of the memory.
        ("h200-sxm-141gb", ["3g.71gb", "3g.71gb", "1g.18gb"], "3g.71gb + 3g.71gb + 1g.18gb do not fit"),
        ("h200-sxm-141gb", ["3g.40gb"], "h200-sxm-141gb has no MIG profile '3g.40gb': 1g.18gb, 1g.35gb"),
        ("l4-24gb", ["1g.6gb"], "l4-24gb cannot be cut by MIG"),
        ("mi300x-192gb", ["1g.24gb"], "cannot be cut by MIG"),
    ],
)
def test_instances_fit_as_the_driver_places_them(gpu: str, profiles: list[str], said: str | None) -> None:
    found = list(mig_faults(instances(*profiles), load_gpu(gpu)))
    assert found == [] if said is None else any(said in fault for fault in found), found


def test_an_instance_holds_what_it_is_to_hold() -> None:
    (fault,) = mig_faults(instances("1g.18gb", memory_bytes=30_000_000_000), load_gpu("h200-sxm-141gb"))
    assert fault == "tiny needs 30000000000 bytes, 1g.18gb has 17179869184"
    assert list(mig_faults([REPLICA], load_gpu("l4-24gb"))) == []


def test_replicas_that_share_have_the_same_gpu_and_phases_their_own() -> None:
    first, second = members(shared(HALF, HALF))
    assert first.gpu_ids == second.gpu_ids == (GpuId(node="fast-0", index=0),)
    assert (first.id, second.id) == ("g.0", "g.1") and first.queue != second.queue
    prefill, decode, other = members(phases("prefill", "decode", "decode"))
    assert [[gpu.index for gpu in one.gpu_ids] for one in (prefill, decode, other)] == [[0, 1], [2, 3], [4, 5]]
    assert prefill.queue != decode.queue == other.queue
    whole = group("g", "q@t", "fast", ONE)
    assert members(whole) == (whole,)


def two_models(*replicas: Replica) -> Plan:
    """Two workloads of different models on one group."""
    workloads = changed().workloads
    code = workloads["code"].model_copy(update={"model": "other"})
    routes = (Route(group="g", weight_fraction=1.0),)
    return changed(
        groups=(shared(*replicas),),
        routes={"chat": routes, "code": routes},
        workloads={**workloads, "code": code},
    )


def test_workloads_go_to_the_replicas_of_their_model() -> None:
    other = replica(sm_fraction=0.5, model="other")
    found = apart(two_models(replica(sm_fraction=0.25), replica(sm_fraction=0.25), other))
    assert {g.id: (g.kind, g.replicas[0].sm_fraction) for g in found.groups} == {
        "g.0": ("dedicated", 0.25),
        "g.1": ("dedicated", 0.25),
        "g.2": ("dedicated", 0.5),
    }
    assert [g.queue for g in found.groups] == [
        "chat@fast/tiny/bf16/tp1pp1ep1",
        "chat@fast/tiny/bf16/tp1pp1ep1",
        "code@fast/other/bf16/tp1pp1ep1",
    ]
    assert [g.template for g in found.groups] == [g.queue.split("@")[1] for g in found.groups]
    assert {name: [(r.group, r.weight_fraction) for r in some] for name, some in found.routes.items()} == {
        "chat": [("g.0", 0.5), ("g.1", 0.5)],
        "code": [("g.2", 1.0)],
    }
    with pytest.raises(PlanFileError, match="code is routed to g, which does not run other"):
        apart(two_models(HALF, HALF))
    assert apart(changed()) == changed()
