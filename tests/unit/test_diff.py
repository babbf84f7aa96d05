"""A plan against a changed copy of itself: exactly what was changed is told."""

from typing import Any

import pytest

from planner.diff import HISTORY, Change, changes_as_data, diff_plans, render_diff
from planner.plan_file import FigureEvidence, GpuId, Plan, Relaxation, Replica, Slack
from profiles.evidence import Evidence
from tests.hand_plan import (
    CHAT,
    ENGINE,
    NO_PLAN,
    PLAN,
    REPLICA,
    changed,
    group,
    percentiles,
    with_groups,
    with_workload,
)

G0, G1, G2 = PLAN.groups
CHEAP, FAST = PLAN.gpu_counts["cheap"], PLAN.gpu_counts["fast"]
CHAT_GETS = "12 requests/s, attained 99.10%, TTFT p99 720.0 ms, TPOT p99 30.0 ms"


def told(old: Plan, new: Plan) -> list[tuple[str, str | None, str | None]]:
    """The changes as plain triples."""
    return [(change.subject, change.old, change.new) for change in diff_plans(old, new)]


def counts(**fields: Any) -> Plan:
    """The plan with other figures of the pool `cheap`."""
    return changed(gpu_counts={"cheap": CHEAP.model_copy(update=fields), "fast": FAST})


def engine(**fields: Any) -> Replica:
    """The replica with other engine settings."""
    return REPLICA.model_copy(update={"engine": ENGINE.model_copy(update=fields)})


ONE_CHANGE = {
    "cost": (changed(cost_usd_per_hour=8.0), ("cost", "7.20 USD/h", "8.00 USD/h")),
    "reserved": (
        changed(sunk_usd_per_hour=3.5),
        ("reserved, paid either way", "0.00 USD/h", "3.50 USD/h"),
    ),
    "GPUs bought": (counts(bought=8), ("GPUs of cheap", "4", "8")),
    "price": (counts(price_usd_per_gpu_hour=0.85), ("price of cheap", "0.8 USD/GPU-h", "0.85 USD/GPU-h")),
    "pool gone": (counts(bought=0), ("GPUs of cheap", "4", None)),
    "SLO": (
        with_workload("chat", slo={"ttft_ms": 800.0, "tpot_ms": 50.0}),
        ("SLO of chat", "ttft_ms 800, tpot_ms 60 for 95.00%", "ttft_ms 800, tpot_ms 50 for 95.00%"),
    ),
    "target": (
        with_workload("code", attainment_target=0.99),
        ("SLO of code", "ttft_ms 1000 for 90.00%", "ttft_ms 1000 for 99.00%"),
    ),
    "rate": (with_workload("chat", rate_rps=13.0), ("rate of chat", "12 requests/s", "13 requests/s")),
    "served": (
        with_workload("chat", served_rps=11.0),
        ("chat gets", CHAT_GETS, CHAT_GETS.replace("12 requests", "11 requests")),
    ),
    "attained": (
        with_workload("chat", attainment=0.98),
        ("chat gets", CHAT_GETS, CHAT_GETS.replace("99.10%", "98.00%")),
    ),
    "tail": (
        with_workload("chat", tpot_ms=percentiles(31.0)),
        ("chat gets", CHAT_GETS, CHAT_GETS.replace("30.0 ms", "31.0 ms")),
    ),
    "no TPOT any more": (
        with_workload("chat", tpot_ms=None),
        ("chat gets", CHAT_GETS, CHAT_GETS.removesuffix(", TPOT p99 30.0 ms")),
    ),
    "moved": (
        with_groups(G0, G1.model_copy(update={"gpu_ids": (GpuId(node="cheap-3", index=2),)}), G2),
        ("GPUs of chat@tiny-cheap", "cheap-0 1", "cheap-3 2"),
    ),
    "settings": (
        with_groups(
            *(
                g.model_copy(update={"replicas": (engine(max_num_seqs=128, max_num_batched_tokens=512),)})
                for g in (G0, G1)
            ),
            G2,
        ),
        (
            "settings of chat@tiny-cheap",
            "max_num_seqs 64, max_num_batched_tokens 4096",
            "max_num_seqs 128, max_num_batched_tokens 512",
        ),
    ),
    "quantization": (
        with_groups(G0, G1, G2.model_copy(update={"replicas": (REPLICA.model_copy(update={"quantization": "fp8"}),)})),
        ("settings of chat+code@tiny-fast", "quantization bf16", "quantization fp8"),
    ),
    "layout": (
        with_groups(G0, G1, G2.model_copy(update={"tp": 1, "pp": 2})),
        ("settings of chat+code@tiny-fast", "tp 2, pp 1", "tp 1, pp 2"),
    ),
}


@pytest.mark.parametrize("name", sorted(ONE_CHANGE))
def test_one_change_is_told_and_nothing_else(name: str) -> None:
    new, (subject, old_value, new_value) = ONE_CHANGE[name]
    assert told(PLAN, new) == [(subject, old_value, new_value)]
    assert told(new, PLAN) == [(subject, new_value, old_value)]


def test_a_copy_more_is_a_replica_and_a_gpu_more() -> None:
    more = with_groups(*PLAN.groups, group("g3", G0.queue, "cheap", ("cheap-0", 2)))
    assert told(PLAN, more) == [
        ("replicas of chat@tiny-cheap", "2", "3"),
        ("GPUs of chat@tiny-cheap", "none", "cheap-0 2"),
    ]


def test_a_queue_that_goes_and_one_that_comes() -> None:
    other = with_groups(G0, G1, group("g2", "chat@tiny-fast", "fast", ("fast-0", 0)))
    assert told(PLAN, other) == [
        ("replicas of chat+code@tiny-fast", "1", None),
        ("replicas of chat@tiny-fast", None, "1"),
    ]


def test_a_workload_that_goes_and_one_that_comes() -> None:
    other = changed(workloads={"code": PLAN.workloads["code"], "talk": CHAT}, routes={"talk": PLAN.routes["chat"]})
    assert told(PLAN, other) == [("workload chat", CHAT_GETS, None), ("workload talk", None, CHAT_GETS)]


def test_several_changes_come_in_the_order_money_hardware_moves_service() -> None:
    other = changed(
        PLAN,
        cost_usd_per_hour=9.2,
        gpu_counts={"cheap": CHEAP, "fast": FAST.model_copy(update={"bought": 3, "used": 3})},
        groups=(*PLAN.groups, group("g3", "code@tiny-fast", "fast", ("fast-0", 2))),
        workloads={"chat": CHAT.model_copy(update={"served_rps": 11.5}), "code": PLAN.workloads["code"]},
    )
    assert [subject for subject, _, _ in told(PLAN, other)] == [
        "cost",
        "GPUs of fast",
        "replicas of code@tiny-fast",
        "chat gets",
    ]


def test_from_no_plan_to_a_plan_everything_is_new() -> None:
    found = told(NO_PLAN, PLAN)
    assert ("cost", "no plan", "7.20 USD/h") in found
    assert {subject for subject, old, _ in found if old is None} == {
        "GPUs of cheap",
        "GPUs of fast",
        "replicas of chat@tiny-cheap",
        "replicas of chat+code@tiny-fast",
        "workload chat",
        "workload code",
    }


def test_a_plan_is_the_same_as_itself_and_as_one_that_was_reached_otherwise() -> None:
    assert diff_plans(PLAN, PLAN) == []
    assert render_diff([]) == "the plans are the same\n"
    other = changed(
        name="renamed", seed=7, spec={"name": "x"}, spec_digest="1" * 64, wall_s={"mix": 1.0}, objectives={"cost": 7.3}
    )
    assert diff_plans(PLAN, other) == []


OTHER_VALUES: dict[str, Any] = {
    "engine": "other",
    "termination": "feasible",
    "bound_fluid": 5.0,
    "gap_fluid_fraction": 0.5,
    "bound_model": 7.0,
    "gap_model_fraction": 0.5,
    "bound_scope": "other",
    "verified": None,
    "routes": {},
    "unmet": {},
    "slack": (Slack(queue="chat@tiny-cheap", copies=1, reason="other"),),
    "assumptions": (),
    "conflicts": ("other",),
    "relaxations": (Relaxation(what="other", field="other"),),
}
COMPARED = {"cost_usd_per_hour", "sunk_usd_per_hour", "gpu_counts", "groups", "workloads", "version"}


def test_every_field_of_a_plan_is_compared_or_is_history() -> None:
    assert set(Plan.model_fields) == COMPARED | set(OTHER_VALUES) | set(HISTORY)


@pytest.mark.parametrize("field", sorted(OTHER_VALUES))
def test_no_difference_goes_unsaid(field: str) -> None:
    assert [subject for subject, _, _ in told(PLAN, changed(**{field: OTHER_VALUES[field]}))] == [f"details of {field}"]


def test_details_of_groups_and_workloads_do_not_go_unsaid() -> None:
    evidence = FigureEvidence(headline=Evidence.MODELLED, shares={Evidence.MODELLED: 1.0})
    other = with_workload("chat", evidence=evidence)
    assert [subject for subject, _, _ in told(PLAN, other)] == ["details of workloads"]
    other = with_groups(G0, G1.model_copy(update={"replicas": (engine(max_num_seqs=8),)}), G2)
    assert [subject for subject, _, _ in told(PLAN, other)] == ["details of groups"]


def test_lines_are_marked_by_what_they_are() -> None:
    changes = [
        Change(subject="a", old="1", new="2"),
        Change(subject="b", old=None, new="2"),
        Change(subject="c", old="1", new=None),
    ]
    assert render_diff(changes) == "~ a: 1 → 2\n+ b: 2\n- c: 1\n"
    assert changes_as_data(changes)[1] == {"subject": "b", "old": None, "new": "2"}


def test_text_keeps_to_100_columns_and_to_printable_characters() -> None:
    nodes = tuple(GpuId(node=f"node-{'x' * 50}-{i}", index=i) for i in range(30))
    name = "q\x1b[2J\n" + "y" * 150
    other = with_groups(G0, G1, G2.model_copy(update={"gpu_ids": nodes, "queue": name}))
    older = with_groups(G0, G1, G2.model_copy(update={"queue": name}))
    text = render_diff(diff_plans(older, other))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert all(character.isprintable() or character == "\n" for character in text)
    assert all(line[0] in "~+- " for line in text.splitlines())
