"""A relaxation that is called sufficient gives a plan when somebody does what it says."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from planner.plan_check import check_plan
from planner.plan_file import Plan, Relaxation
from planner.relax import MOST_TRIED, proven
from planner.spec_load import Loaded
from tests.hand_plan import NO_PLAN
from tests.spec_changes import relaxed
from tests.spec_fixtures import OPTIONS, Dict, load, model, plan, pool, random_spec, spec, workload, write_tables

BUSY = workload(traffic={"rate_rps": 400.0})
SURVIVES = {"kind": "survive", "workload": "chat", "loss": "node", "fraction": 1.0}
INFEASIBLE: dict[str, Dict] = {
    "budget": spec(
        pools=[pool(buy="gpu"), pool("big", "l40s-48gb", max_nodes=1, buy="gpu")],
        models=[model(), model("large", "llama-3.1-8b", parallelism={"tp": [1, 2]})],
        workloads=[workload(), workload("code", model="large", traffic={"rate_rps": 2.0})],
        constraints=[{"kind": "budget", "usd_per_hour": 1.5}],
    ),
    "budget with spares": spec(
        pools=[pool(buy="gpu")],
        workloads=[workload(traffic={"rate_rps": 60.0})],
        constraints=[SURVIVES, {"kind": "budget", "usd_per_hour": 0.8}],
    ),
    "GPUs": spec(
        pools=[pool(buy="gpu")],
        workloads=[workload(traffic={"rate_rps": 60.0}), workload("talk", traffic={"rate_rps": 300.0})],
        constraints=[{"kind": "max_gpus", "count": 1}],
    ),
    "GPUs of a pool": spec(
        pools=[pool(buy="gpu"), pool("other", "a10g-24gb", max_nodes=1, gpus_per_node=1)],
        workloads=[workload(traffic={"rate_rps": 300.0})],
        constraints=[{"kind": "max_gpus", "count": 1, "pool": "main"}],
    ),
    "nodes to buy": spec(pools=[pool(max_nodes=1, gpus_per_node=1)], workloads=[BUSY]),
    "nodes that exist": spec(
        pools=[pool(nodes=1, gpus_per_node=1), pool("other", "a10g-24gb", nodes=1, gpus_per_node=1)],
        workloads=[BUSY],
    ),
    "room for replicas": spec(
        pools=[pool(max_nodes=1, gpus_per_node=2)],
        constraints=[{"kind": "min_replicas", "workload": "chat", "count": 4}],
    ),
}
SUPPLIES = {"nodes to buy", "nodes that exist", "room for replicas", "GPUs of a pool"}


@cache
def answered(name: str) -> Plan:
    """The answer to one of these specs."""
    return plan(INFEASIBLE[name])


@pytest.mark.parametrize("name", sorted(INFEASIBLE))
def test_what_is_called_sufficient_is(name: str) -> None:
    data = INFEASIBLE[name]
    without = answered(name)
    assert not without.groups and without.termination == "infeasible"
    sufficient = [one for one in without.relaxations if one.sufficient]
    assert sufficient, without.relaxations
    for one in sufficient:
        found = plan(relaxed(data, one))
        assert found.groups, one
        assert found.verified is not None and found.verified.held, one
        assert check_plan(found) == [], one


@pytest.mark.parametrize("seed", [25, 149, 172, 180, 209])
def test_of_varied_specs_too(seed: int, tmp_path: Path) -> None:
    write_tables(tmp_path)
    data = random_spec(seed)
    sufficient = [one for one in plan(data, tmp_path).relaxations if one.sufficient]
    assert sufficient
    for one in sufficient:
        found = plan(relaxed(data, one), tmp_path)
        assert found.groups and found.verified is not None and found.verified.held, one


@pytest.mark.parametrize("name", sorted(SUPPLIES))
def test_a_fleet_that_is_too_small_is_told_how_many_more_gpus_it_needs(name: str) -> None:
    data = INFEASIBLE[name]
    pools = {p["name"]: p for p in data["cluster"]["pools"]}
    more = [one for one in answered(name).relaxations if one.sufficient and one.field.startswith("cluster.pools.")]
    assert more
    for one in more:
        _, _, pool_name, field = one.field.split(".")
        added = int(float(str(one.needed))) - pools[pool_name][field]
        gpus, gpu = added * pools[pool_name]["gpus_per_node"], pools[pool_name]["gpu"]
        assert added > 0 and one.now == pools[pool_name][field]
        assert one.what == f"{gpus} more {gpu} ({added} nodes) in pool {pool_name}"


def test_a_budget_just_below_the_one_called_sufficient_is_not() -> None:
    data = INFEASIBLE["budget"]
    one = next(r for r in answered("budget").relaxations if r.sufficient)
    assert one.what.startswith("a budget of ")
    less = one.model_copy(update={"needed": float(str(one.needed)) * 0.9})
    assert not plan(relaxed(data, less)).groups


@pytest.mark.parametrize("name", sorted(INFEASIBLE))
def test_nothing_is_called_sufficient_that_was_not_tried(name: str) -> None:
    untried = plan(INFEASIBLE[name], options=replace(OPTIONS, try_relaxations=False))
    assert untried.relaxations
    assert not any(one.sufficient for one in untried.relaxations)


BUDGET = Relaxation(what="a budget", field="constraints[0]", now=1.0, needed=2.0)
SUPPLY = Relaxation(what="nodes", field="cluster.pools.main.max_nodes", now=1.0, needed=2.0)
RATE = Relaxation(what="serve less", field="workloads.chat.traffic.rate_rps", now=400.0, needed=80.0)
POOR = load(
    spec(
        pools=[pool(max_nodes=1, gpus_per_node=1)],
        workloads=[BUSY],
        constraints=[{"kind": "budget", "usd_per_hour": 1.0}],
    )
)


class Answers:
    """Plans nothing and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Loaded] = []

    def __call__(self, loaded: Loaded) -> Plan:
        self.asked.append(loaded)
        return NO_PLAN


def test_what_does_not_help_is_left_out_and_what_is_not_tried_is_not_called_sufficient() -> None:
    answers = Answers()
    assert proven(POOR, (BUDGET, RATE, SUPPLY), answers) == (RATE,)
    budgets = [a.spec.constraints[0].model_dump()["usd_per_hour"] for a in answers.asked]
    nodes = [a.spec.cluster.pools[0].max_nodes for a in answers.asked]
    assert budgets[0] > 1e6 and budgets[1:] == [1.0, 1.0]
    assert nodes == [1, 2, 3], "the supply is grown once more before it is given up"


def test_only_the_first_few_are_tried() -> None:
    answers = Answers()
    many = (BUDGET,) * (MOST_TRIED + 2)
    kept = proven(POOR, many, answers)
    assert len(answers.asked) == MOST_TRIED
    assert kept == (BUDGET,) * 2
