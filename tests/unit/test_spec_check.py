"""Rules between fields of a spec: every fault with its field, and none where there is none."""

from pathlib import Path
from typing import Any

import pytest

from planner.spec_check import check_references
from planner.spec_load import checked
from planner.spec_yaml import parse_document
from tests.spec_fixtures import Dict, load, model, pool, random_spec, spec, workload

TWO_POOLS = [pool(), pool("other", "l40s-48gb", zone="zone-b")]
CHAT_AND_TALK = [workload(), workload("talk")]
RANKER = {"name": "small", "latency_table": "ranker.csv"}
LEGACY = {"name": "small", "capacity_table": "legacy.csv"}
TOKENS = workload()["tokens"]


def faults(data: Dict) -> list[tuple[str, str]]:
    """Field and sentence of every fault."""
    return [(fault.field, fault.what) for fault in check_references(load(data))]


def table_workload(**fields: Any) -> Dict:
    """A workload of a latency-table model that is right unless the fields say otherwise."""
    given = {"name": "chat", "model": "small", "traffic": {"rate_rps": 4.0}, "slo": {"e2e_ms": 100}}
    return given | fields


def ruled(*rules: Dict) -> Dict:
    """A spec of two pools and two workloads with these constraints."""
    return spec(pools=TWO_POOLS, workloads=CHAT_AND_TALK, constraints=list(rules))


@pytest.mark.parametrize("seed", range(40))
def test_specs_that_are_right_have_no_fault(seed: int) -> None:
    assert faults(random_spec(seed)) == []


ONE_FAULT = {
    # name: (spec, field, words of the sentence)
    "pool twice": (spec(pools=[pool(), pool()]), "cluster.pools[1].name", "'main' is used twice"),
    "model twice": (spec(models=[model(), model()]), "models[1].name", "'small' is used twice"),
    "workload twice": (spec(workloads=[workload(), workload()]), "workloads[1].name", "'chat' is used twice"),
    "unknown model": (
        spec(workloads=[workload(model="smal")]),
        "workloads[0].model",
        "no model 'smal' in this spec. Maybe you meant 'small'",
    ),
    "objective of later": (spec(objectives=["serve", "cost", "energy"]), "objectives[2]", "not planned for yet"),
    "objective twice": (spec(objectives=["serve", "cost", "serve"]), "objectives[2]", "given twice"),
    "objectives turned round": (spec(objectives=["cost", "serve"]), "objectives", "in this order"),
    "one objective": (spec(objectives=["cost"]), "objectives", "only [serve, cost]"),
    "no limit": (spec(workloads=[workload(slo={})]), "workloads[0]", "has no limit in slo"),
    "tokens of a table": (
        spec(models=[RANKER], workloads=[table_workload(tokens=TOKENS)]),
        "workloads[0].tokens",
        "has no tokens: leave them out",
    ),
    "length classes of a table": (
        spec(models=[RANKER], workloads=[table_workload(length_classes=[64])]),
        "workloads[0].tokens",
        "has no tokens",
    ),
    "KV router of a table": (
        spec(models=[RANKER], workloads=[table_workload(router="least_kv")]),
        "workloads[0].router",
        "no KV cache",
    ),
    "TTFT of a table": (
        spec(models=[RANKER], workloads=[table_workload(slo={"ttft_ms": 5, "e2e_ms": 9})]),
        "workloads[0].slo",
        "state e2e_ms, not ttft_ms or tpot_ms",
    ),
    "no limit of a table": (
        spec(models=[RANKER], workloads=[table_workload(slo={})]),
        "workloads[0].slo",
        "needs e2e_ms",
    ),
    "latency of a capacity table": (
        spec(models=[LEGACY], workloads=[workload(slo={"e2e_ms": 100})]),
        "workloads[0].slo",
        "gives rates only",
    ),
    "unknown workload": (
        ruled({"kind": "survive", "workload": "tolk", "loss": "node"}),
        "constraints[0].workload",
        "no workload 'tolk' in this spec. Maybe you meant 'talk'",
    ),
    "unknown model of a rule": (
        ruled({"kind": "min_replicas", "model": "smal", "count": 1}),
        "constraints[0].model",
        "Maybe you meant 'small'",
    ),
    "unknown pool": (
        ruled({"kind": "max_gpus", "pool": "othr", "count": 1}),
        "constraints[0].pool",
        "Maybe you meant 'other'",
    ),
    "unknown zone": (
        ruled({"kind": "pin", "workload": "chat", "zone": "zone-c"}),
        "constraints[0].zone",
        "no zone 'zone-c' in this spec",
    ),
    "unknown among several": (
        ruled({"kind": "never_together", "workloads": ["chat", "talks"]}),
        "constraints[0].workloads[1]",
        "Maybe you meant 'talk'",
    ),
    "twice among several": (
        ruled({"kind": "never_together", "workloads": ["chat", "talk", "chat"]}),
        "constraints[0].workloads[2]",
        "'chat' is given twice",
    ),
    "second rule": (
        ruled({"kind": "avoid", "workload": "chat", "pool": "main"}, {"kind": "avoid", "model": "small", "pool": "x"}),
        "constraints[1].pool",
        "no pool 'x'",
    ),
}


@pytest.mark.parametrize("name", sorted(ONE_FAULT))
def test_one_fault_is_told_once_with_its_field(name: str) -> None:
    data, field, words = ONE_FAULT[name]
    found = faults(data)
    assert [where for where, _ in found] == [field]
    assert words in found[0][1], found


@pytest.mark.parametrize(
    "data",
    [
        spec(workloads=[workload(slo={}, best_effort=True)]),
        spec(models=[RANKER], workloads=[table_workload()]),
        spec(models=[RANKER], workloads=[table_workload(slo={}, best_effort=True)]),
        spec(models=[LEGACY], workloads=[workload(slo={"attainment": 0.9})]),
        spec(objectives=["serve", "cost"]),
        ruled(
            {"kind": "max_gpus", "count": 9},
            {"kind": "max_gpus", "pool": "other", "count": 9},
            {"kind": "budget", "usd_per_hour": 9},
            {"kind": "min_replicas", "workload": "chat", "count": 1},
            {"kind": "max_replicas", "model": "small", "pool": "main", "count": 9},
            {"kind": "spread", "workload": "talk", "over": "zone", "min_domains": 2},
            {"kind": "avoid", "workload": "talk", "pool": "other"},
            {"kind": "pin", "model": "small", "zone": "zone-b"},
            {"kind": "never_together", "workloads": ["chat", "talk"]},
            {"kind": "survive", "workload": "chat", "loss": "zone"},
        ),
    ],
)
def test_what_may_stand_together_is_no_fault(data: Dict) -> None:
    assert faults(data) == []


def test_all_faults_come_together() -> None:
    found = faults(
        spec(
            pools=[pool(), pool()],
            workloads=[workload(model="none"), workload("talk", slo={})],
            objectives=["energy"],
            constraints=[{"kind": "avoid", "workload": "no", "pool": "nowhere"}],
        )
    )
    assert {field for field, _ in found} == {
        "cluster.pools[1].name",
        "objectives[0]",
        "workloads[0].model",
        "workloads[1]",
        "constraints[0].workload",
        "constraints[0].pool",
    }


def test_long_names_are_cut_in_the_sentence() -> None:
    rule = {"kind": "avoid", "workload": "w" * 5000, "pool": "main"}
    assert max(len(what) for _, what in faults(spec(constraints=[rule]))) < 200


def test_a_fault_has_the_line_of_its_field() -> None:
    text = """\
version: 1
cluster:
  pools:
    - {name: main, gpu: l4-24gb, max_nodes: 1}
models:
  - {name: small, architecture: qwen3-0.6b}
workloads:
  - name: chat
    model: small
    traffic: {rate_rps: 1}
    tokens: {lengths: azure-2023-code}
    slo: {e2e_ms: 1000}
constraints:
  - kind: avoid
    workload: chat
    pool: mian
"""
    loaded = checked(parse_document(text, "spec.yaml"), Path())
    assert [(fault.line, fault.field) for fault in check_references(loaded)] == [(16, "constraints[0].pool")]
