"""Why there is no plan: what conflicts, what is short, and changes that a person can make."""

import re
from pathlib import Path

import pytest

from planner.no_plan import idle, roomier, unservable
from planner.pipeline import prepare
from planner.plan_file import Plan
from planner.progress import Progress
from tests.spec_changes import relaxed
from tests.spec_fixtures import OPTIONS, Dict, load, model, plan, pool, random_spec, spec, workload, write_tables

FAST = {"ttft_ms": 1, "tpot_ms": 1, "attainment": 0.9}


def infeasible(data: Dict, folder: Path = Path()) -> Plan:
    """The answer to a spec that has no plan."""
    found = plan(data, folder)
    assert not found.groups and found.termination == "infeasible" and found.cost_usd_per_hour is None
    assert found.conflicts
    return found


def test_a_limit_that_one_request_alone_misses_is_said_to_be_that() -> None:
    found = infeasible(spec(workloads=[workload(slo=FAST), workload("talk")]))
    assert [re.sub(r"\d+ ms on", "N ms on", c.split(":")[0]) for c in found.conflicts] == [
        "TTFT of chat must be at least N ms on any allowed GPU (asked",
        "TPOT of chat must be at least N ms on any allowed GPU (asked",
    ]
    assert all("one request alone already misses it, so no number of replicas helps" in c for c in found.conflicts)
    assert found.unmet == {"chat": 4.0}


def test_a_limit_at_what_is_said_to_be_needed_is_no_longer_hopeless() -> None:
    data = spec(workloads=[workload(slo=FAST, traffic={"rate_rps": 0.2})])
    ttft, tpot = infeasible(data).relaxations
    assert (ttft.field, tpot.field) == ("workloads.chat.slo.ttft_ms", "workloads.chat.slo.tpot_ms")
    both = plan(relaxed(relaxed(data, ttft), tpot))
    assert not any("one request alone" in sentence for sentence in both.conflicts)
    one = infeasible(relaxed(data, ttft))
    assert [r.field for r in one.relaxations] == [tpot.field]
    assert one.relaxations[0].needed == tpot.needed


def test_a_limit_below_what_is_said_to_be_needed_stays_hopeless() -> None:
    data = spec(workloads=[workload(slo={"tpot_ms": 1, "attainment": 0.9})])
    (one,) = infeasible(data).relaxations
    assert one.now == 1.0 and one.needed is not None
    less = one.model_copy(update={"needed": int(float(one.needed)) - 2})
    assert "one request alone" in infeasible(relaxed(data, less)).conflicts[0]


def test_the_fastest_of_the_pools_says_what_is_needed() -> None:
    slow, both = (
        float(str(infeasible(spec(pools=pools, workloads=[workload(slo={"tpot_ms": 1})])).relaxations[0].needed))
        for pools in ([pool()], [pool(), pool("fast", "h100-sxm-80gb")])
    )
    assert both < slow / 2


@pytest.mark.parametrize("seed", [8, 26, 64])
def test_a_limit_is_named_once_however_many_mixes_miss_it(seed: int, tmp_path: Path) -> None:
    write_tables(tmp_path)
    fields = [one.field for one in infeasible(random_spec(seed), tmp_path).relaxations]
    assert fields and len(set(fields)) == len(fields)


def test_a_model_that_fits_nowhere_is_told_with_its_memory() -> None:
    found = infeasible(spec(models=[model(architecture="llama-3.1-70b")]))
    assert found.conflicts[0].startswith("chat: small runs on no allowed pool. llama-3.1-70b in bf16 at tp 1")
    assert "does not fit" in found.conflicts[0]


def test_rules_that_leave_no_pool_are_told() -> None:
    rules = [{"kind": "avoid", "workload": "chat", "pool": "main"}]
    assert "no pool is left that the rules allow" in infeasible(spec(constraints=rules)).conflicts[0]


@pytest.mark.parametrize(
    ("over", "fields", "there"),
    [("rack", {"racks": 2}, 2), ("node", {"max_nodes": 2}, 2), ("rack", {"racks": 1}, 1), ("zone", {}, 1)],
)
def test_a_spread_beyond_what_there_is_counts_what_there_is(over: str, fields: Dict, there: int) -> None:
    rule = {"kind": "spread", "workload": "chat", "over": over, "min_domains": 3}
    data = spec(pools=[pool(**fields)], constraints=[rule])
    found = infeasible(data)
    assert found.conflicts == (
        f"constraints[0]: spread (workload chat, over {over}, min_domains 3): 3 {over}s are asked for, but pools main"
        f" have {there}",
    )
    (one,) = found.relaxations
    if there == 2:
        assert one.what == f"spread over 2 {over}s, or add 1 {over}"
        assert one.needed == 2.0
    else:
        assert one.what.startswith(f"add 2 {over}s, or go without constraints[0]: spread")
        assert one.needed is None, "a spread over one is none"
    assert plan(relaxed(data, one)).groups


def test_racks_of_several_pools_and_zones_of_one_name_are_counted_right() -> None:
    pools = [pool(racks=2, zone="a"), pool("other", "l40s-48gb", racks=2, zone="a")]
    racks = {"kind": "spread", "workload": "chat", "over": "rack", "min_domains": 5}
    zones = {"kind": "spread", "workload": "chat", "over": "zone", "min_domains": 2}
    found = infeasible(spec(pools=pools, constraints=[racks, zones]))
    assert found.conflicts[0].endswith("5 racks are asked for, but pools main, other have 4")
    assert found.conflicts[1].endswith("2 zones are asked for, but pools main, other have 1")


RULES_AGAINST_RULES = [
    [
        {"kind": "min_replicas", "workload": "chat", "count": 4},
        {"kind": "max_replicas", "workload": "chat", "count": 2},
    ],
    [
        {"kind": "spread", "workload": "chat", "over": "node", "min_domains": 3},
        {"kind": "max_replicas", "workload": "chat", "count": 2},
    ],
    [{"kind": "min_replicas", "workload": "chat", "count": 9}, {"kind": "max_gpus", "count": 4}],
    [{"kind": "min_replicas", "workload": "chat", "count": 9}, {"kind": "budget", "usd_per_hour": 2.0}],
]


@pytest.mark.parametrize("rules", RULES_AGAINST_RULES, ids=lambda rules: " and ".join(r["kind"] for r in rules))
def test_rules_in_conflict_are_named_and_each_gives_way(rules: list[Dict]) -> None:
    data = spec(pools=[pool(buy="gpu")], constraints=rules)
    found = infeasible(data)
    named = {int(i) for sentence in found.conflicts for i in re.findall(r"^constraints\[(\d+)\]", sentence)}
    assert named == {0, 1}
    for one in found.relaxations:
        assert plan(relaxed(data, one)).groups, one
    assert {one.field.split(".")[0] for one in found.relaxations} == {"constraints[0]", "constraints[1]"}


def test_a_rule_that_is_no_part_of_the_conflict_is_not_named() -> None:
    rules = [
        {"kind": "max_gpus", "count": 30},
        {"kind": "min_replicas", "workload": "chat", "count": 4},
        {"kind": "max_replicas", "workload": "chat", "count": 2},
        {"kind": "budget", "usd_per_hour": 1000.0},
    ]
    sentences = " ".join(infeasible(spec(constraints=rules)).conflicts)
    assert "constraints[1]" in sentences and "constraints[2]" in sentences
    assert "constraints[0]" not in sentences and "constraints[3]" not in sentences


WITHOUT = {
    "zones": spec(constraints=[{"kind": "survive", "workload": "chat", "loss": "zone", "fraction": 0.5}]),
    "nodes": spec(pools=[pool(max_nodes=1)], constraints=[{"kind": "survive", "workload": "chat", "loss": "node"}]),
    "apart": spec(
        pools=[pool(max_nodes=1)],
        workloads=[workload(), workload("talk")],
        constraints=[{"kind": "never_together", "workloads": ["chat", "talk"]}],
    ),
}


@pytest.mark.parametrize("name", sorted(WITHOUT))
def test_a_rule_that_no_figure_can_mend_is_to_be_left_out(name: str) -> None:
    data = WITHOUT[name]
    found = infeasible(data)
    assert not any("instead of" in one.what and one.field.startswith("constraints") for one in found.relaxations)
    (one,) = [one for one in found.relaxations if one.field == "constraints[0]"]
    assert one.what.startswith("without constraints[0]: ") and one.now is None and one.needed is None
    assert plan(relaxed(data, one)).groups
    assert not any(one.field == "placement" for one in found.relaxations)


def test_a_workload_of_which_nothing_can_be_served_is_to_be_left_out() -> None:
    rules = [{"kind": "budget", "usd_per_hour": 0.5}]
    data = spec(workloads=[workload(), workload("talk", best_effort=True, slo={})], constraints=rules)
    found = infeasible(data)
    left_out = [one for one in found.relaxations if one.field == "workloads.chat"]
    assert [one.what for one in left_out] == ["leave chat out"]
    assert not any("at 0 instead" in one.what for one in found.relaxations)


def test_what_is_short_is_short_by_priority() -> None:
    workloads = [
        workload("low", traffic={"rate_rps": 100.0}, priority=3),
        workload("high", traffic={"rate_rps": 60.0}, priority=1),
    ]
    found = infeasible(spec(pools=[pool(max_nodes=1, gpus_per_node=1)], workloads=workloads))
    assert set(found.unmet) == {"low"}
    assert 0 < found.unmet["low"] <= 100.0
    turned = [w | {"priority": 4 - w["priority"]} for w in workloads]
    unmet = infeasible(spec(pools=[pool(max_nodes=1, gpus_per_node=1)], workloads=turned)).unmet
    assert unmet["high"] == 60.0 and unmet["low"] < found.unmet["low"]


def test_idle_says_why_nothing_runs_at_all() -> None:
    data = spec(workloads=[workload(slo=FAST), workload("talk", slo={}, best_effort=True)], allow_unmet=True)
    found = plan(data)
    assert not found.groups
    assert any("TTFT of chat must be at least" in sentence for sentence in found.conflicts)
    assert "talk: best effort buys no GPU, and none is left in the pools that it may use." in found.conflicts


def test_a_workload_that_has_a_queue_is_servable_and_best_effort_always_is() -> None:
    data = spec(workloads=[workload(slo=FAST), workload("talk"), workload("free", slo={}, best_effort=True)])
    prepared = prepare(load(data), OPTIONS, Progress())
    workloads = prepared.resolved.workloads
    assert unservable(workloads, prepared.candidates, {0: 1, 1: 1}) is None
    found = unservable(workloads, prepared.candidates, {1: 1})
    assert found is not None and set(found.unmet) == {"chat"}
    assert len(idle(workloads, prepared.candidates, {1: 1})) == 4


def test_the_roomier_market_is_limited_by_supply_alone() -> None:
    data = spec(
        pools=[pool(max_nodes=1, gpus_per_node=2), pool("odd", "l40s-48gb", max_nodes=1, gpus_per_node=3)],
        models=[model(parallelism={"tp": [1, 2]})],
        workloads=[workload(traffic={"rate_rps": 5000.0})],
    )
    market = prepare(load(data), OPTIONS, Progress()).market
    for before, after in zip(market.queues, roomier(market).queues, strict=True):
        fills = before.template.pool.gpus_per_node % before.template.gpus == 0
        copies = after.max_copies
        if fills:
            assert copies > before.max_copies
            assert copies * before.analytic_rps[-1] >= 5000.0
        else:
            assert copies == before.max_copies
