"""A plan as text: every figure that matters, at most 100 columns, nothing that a terminal would obey."""

from pathlib import Path
from typing import Any

import pytest

from planner.plan_file import FigureEvidence, GpuId, Plan, Relaxation, Route, Slack
from planner.render_plan import LEGEND, MARKS, MOST_LINES, SAID, WIDTH, printable, render_plan, wrapped
from profiles.evidence import Evidence
from tests.hand_plan import CHAT, NO_PLAN, PLAN, REPLICA, changed, with_groups, with_workload
from tests.planned import colocated, disaggregated
from tests.spec_fixtures import plan, random_spec, write_tables

HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202eback\u2028" + "w" * 130
G0, G1, G2 = PLAN.groups


def rows(text: str, title: str) -> dict[str, list[str]]:
    """The rows of a section, split into words, by their first word."""
    lines = next(part for part in text.split("\n\n") if part.startswith(f"{title}\n")).splitlines()
    return {line.split()[0]: line.split() for line in lines[1:] if line.strip()}


def assert_readable(text: str) -> None:
    """At most 100 columns of printable characters, nothing cut off."""
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert all(line == line.rstrip() for line in text.splitlines())


def test_every_figure_is_there() -> None:
    text = render_plan(PLAN)
    assert_readable(text)
    assert text.startswith("by-hand: 7.20 USD/h for 6 GPUs, 2 of them idle\n")
    assert rows(text, "Buy")["cheap"] == ["cheap", "4", "2", "1", "0.80", "3.20", "on_demand"]
    assert rows(text, "Buy")["fast"] == ["fast", "2", "2", "1", "2.00", "4.00", "on_demand"]
    expect = rows(text, "Expect")
    chat = ["chat", "12", "99.10%", "95.00%", "180/720", "<800", "7.5/30.0", "<60", "4,000", "scaled"]
    code = ["code", "2", "97.00%", "90.00%", "25/100", "<1,000", "5.0/20.0", "900", "measured"]
    assert expect["chat"] == chat and expect["code"] == code
    assert "no plan can cost less than 6.00 USD/h whatever the dispatching (the plan is 16.7% above it)" in text
    assert "within 0.0% of the best" in text
    assert "simulated on 8 draws: every workload holds its SLO (mean − 2 · standard error ≥ attainment)" in text
    assert "Unmet\n  code: 1 requests/s" in text
    assert "Slack\n  chat@tiny-cheap (2 copies): one copy less misses by chance" in text
    assert "Assumed\n  a router in front of the replicas" in text


def test_copies_of_a_queue_are_one_row() -> None:
    lines = render_plan(PLAN).split("Run\n")[1].split("\n\n")[0].splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["tiny", "cheap", "2", "2", "1·1·1", "bf16", "64", "4,096", "81,920"],
        ["tiny", "fast", "1", "2", "2·1·1", "bf16", "64", "4,096", "81,920"],
    ]


def test_replicas_of_a_shared_group_have_rows_of_their_own() -> None:
    def run(plan: Plan) -> list[list[str]]:
        lines = render_plan(plan).split("Run\n")[1].split("\n\n")[0].splitlines()
        return [line.split()[:-4] for line in lines[1:]]

    assert run(colocated()) == [["talk", "h200", "2", "1", "1·1·1"], ["code", "h200", "2", "1", "1·1·1"]]
    assert run(disaggregated()) == [
        ["llama-70b", "(prefill)", "h100", "1", "2", "2·1·1"],
        ["llama-70b", "(decode)", "h100", "2", "4", "2·1·1"],
    ]


def test_a_model_known_by_a_table_has_no_engine_settings() -> None:
    table = REPLICA.model_copy(update={"engine": None, "batch": 32, "kv_tokens": 0, "quantization": "measured"})
    text = render_plan(
        with_groups(G0.model_copy(update={"replicas": (table,)}), G2, G1.model_copy(update={"queue": "x"}))
    )
    line = next(line for line in text.splitlines() if "measured" in line and "cheap" in line)
    assert line.split() == ["tiny", "cheap", "1", "1", "1·1·1", "measured", "batch", "32", "–", "–"]


def test_pools_that_nothing_is_bought_of_are_left_out() -> None:
    none = PLAN.gpu_counts["cheap"].model_copy(update={"bought": 0, "used": 0, "nodes": 0})
    assert list(rows(render_plan(changed(gpu_counts={"spare": none, **PLAN.gpu_counts})), "Buy")) == [
        "pool",
        "cheap",
        "fast",
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bound_fluid": 7.2, "gap_fluid_fraction": 0.0}, "(the plan is as cheap as that)"),
        ({"gap_fluid_fraction": None}, "(gap unknown)"),
        ({"sunk_usd_per_hour": 1234.5}, "beside 1,234.50 USD/h for reserved GPUs, paid either way"),
        ({"termination": "time_limit"}, SAID["time_limit"]),
        ({"termination": "cancelled"}, SAID["cancelled"]),
        ({"termination": "feasible"}, SAID["feasible"]),
    ],
)
def test_the_headline_says_how_good_and_how_final_the_plan_is(fields: dict[str, Any], words: str) -> None:
    assert words in render_plan(changed(**fields))
    assert words not in render_plan(PLAN)


def test_a_plan_that_does_not_hold_says_so() -> None:
    assert PLAN.verified is not None
    failed = PLAN.verified.model_copy(update={"held": False})
    text = render_plan(changed(verified=failed))
    assert "NOT every workload holds its SLO" in text and "draws: every workload" not in text
    assert "simulated on" not in render_plan(changed(verified=None))


def test_every_way_to_end_is_said_or_needs_no_word() -> None:
    terminations = Plan.model_json_schema()["properties"]["termination"]["enum"]
    assert set(SAID) == set(terminations)


def test_figures_that_do_not_exist_are_dashes() -> None:
    bare = FigureEvidence(headline=Evidence.MODELLED, shares={})
    other = with_workload(
        "chat", attainment=None, ttft_ms=None, tpot_ms=None, e2e_ms=None, best_effort=True, evidence=bare
    )
    assert rows(render_plan(other), "Expect")["chat"] == ["chat", "12", "–", "best", "effort", "–", "–", "–", "–"]


@pytest.mark.parametrize("evidence", list(Evidence))
def test_the_legend_explains_the_evidence_that_is_shown_and_no_other(evidence: Evidence) -> None:
    one = FigureEvidence(headline=evidence, shares={evidence: 1.0})
    text = render_plan(
        changed(workloads={n: r.model_copy(update={"evidence": one}) for n, r in PLAN.workloads.items()})
    )
    legend = " ".join(text.split("Latencies in ms")[1].split("\n\n")[0].split())
    assert f"{MARKS[evidence]}: {LEGEND[evidence]}." in legend
    assert legend.count(": ") == 1


def test_splits_by_length_are_said_with_their_share() -> None:
    routes = (
        Route(group="g0", weight_fraction=0.3, input_tokens_max=1024),
        Route(group="g1", weight_fraction=0.25, input_tokens_max=1024),
        Route(group="g2", weight_fraction=0.45),
    )
    text = render_plan(changed(routes={"chat": routes, "code": PLAN.routes["code"]}))
    assert "chat: 55.0% of the requests, prompts up to 1,024 tokens, go to replicas of their own" in " ".join(
        text.split()
    )
    assert "Split by length" not in render_plan(PLAN)


def test_long_lists_are_cut_and_the_cut_is_said() -> None:
    many = tuple(f"assumption {i}" for i in range(MOST_LINES + 3))
    text = render_plan(changed(assumptions=many))
    assert f"assumption {MOST_LINES - 1}\n" in text and f"assumption {MOST_LINES}\n" not in text
    assert "and 3 more (see --json)" in text
    exact = render_plan(changed(assumptions=many[:MOST_LINES]))
    assert many[MOST_LINES - 1] in exact and "more (see --json)" not in exact


def test_no_plan_says_why_what_would_help_and_what_is_short() -> None:
    helps = (
        Relaxation(what="a budget of 8 USD/h", field="constraints[0]", now=1.0, needed=8.0, sufficient=True),
        Relaxation(
            what="4 more l4-24gb (1 nodes) in pool cheap", field="cluster.pools.cheap.nodes", now=1.0, needed=2.0
        ),
        Relaxation(what="another GPU", field=""),
    )
    text = render_plan(changed(NO_PLAN, relaxations=helps, unmet={"chat": 2.5}))
    assert_readable(text)
    assert text.startswith("by-hand: there is no plan\n")
    assert "These cannot hold together\n  constraints[0]: budget (usd_per_hour 1)\n" in text
    flat = " ".join(text.split())
    assert "a budget of 8 USD/h (constraints[0]: 1.0 → 8.0; tried: gives a plan)" in flat
    assert "(cluster.pools.cheap.nodes: 1.0 → 2.0; at least; not tried)" in flat
    assert "another GPU\n" in text
    assert "chat: 2.5 requests/s unmet" in text
    assert "Buy" not in text and "Run" not in text


@pytest.mark.parametrize(
    ("termination", "words"),
    [("time_limit", "no plan was found before the wall limit"), ("cancelled", "cancelled before a plan was found")],
)
def test_a_search_that_was_cut_short_found_nothing_impossible(termination: str, words: str) -> None:
    text = render_plan(changed(NO_PLAN, termination=termination))
    assert words in text and "Why\n" in text
    assert "cannot hold together" not in text and "there is no plan" not in text


def hostile_plan() -> Plan:
    """The plan with every free text replaced by control characters and a word too long for a line."""
    data = PLAN.model_dump(mode="json")
    name = HOSTILE[:63]
    data |= {"name": name, "engine": HOSTILE, "bound_scope": HOSTILE, "assumptions": [HOSTILE] * 20}
    data["gpu_counts"] = {HOSTILE: data["gpu_counts"]["cheap"]}
    data["workloads"] = {HOSTILE: data["workloads"]["chat"]}
    data["routes"] = {HOSTILE: [{"group": HOSTILE, "weight_fraction": 1.0, "input_tokens_max": 10**12}]}
    data["unmet"] = {HOSTILE: 1e-9}
    data["slack"] = [{"queue": HOSTILE, "copies": 1, "reason": HOSTILE}]
    data["verified"]["rule"] = HOSTILE
    data["groups"] = data["groups"][:1]
    data["groups"][0] |= {"id": HOSTILE, "queue": HOSTILE, "pool": HOSTILE, "gpu": HOSTILE}
    data["groups"][0]["replicas"][0] |= {"model": HOSTILE, "quantization": HOSTILE[:40]}
    return Plan.model_validate(data)


def test_nothing_hostile_reaches_the_terminal() -> None:
    assert_readable(render_plan(hostile_plan()))
    bad = Relaxation(what=HOSTILE, field=HOSTILE, now=HOSTILE, needed=HOSTILE)
    assert_readable(render_plan(changed(NO_PLAN, name=HOSTILE[:63], conflicts=(HOSTILE,), relaxations=(bad,))))


def test_markup_in_names_is_text() -> None:
    text = render_plan(changed(gpu_counts={**PLAN.gpu_counts, "[red]x[/red]": PLAN.gpu_counts["cheap"]}))
    assert "[red]x[/red]" in text


def test_huge_figures_keep_to_the_width() -> None:
    count = PLAN.gpu_counts["cheap"].model_copy(
        update={"bought": 12_800_000, "used": 12_800_000, "nodes": 100_000, "price_usd_per_gpu_hour": 1e6}
    )
    huge = dict.fromkeys(("mean", "p50", "p90", "p99"), 1e9)
    chat = CHAT.model_dump(mode="json") | {
        "served_rps": 1e6,
        "ttft_ms": huge,
        "tpot_ms": huge,
        "e2e_ms": huge,
        "slo": {"ttft_ms": 1e9, "tpot_ms": 1e9, "e2e_ms": 1e9},
    }
    data = PLAN.model_dump(mode="json")
    data["gpu_counts"]["cheap"] = count.model_dump()
    data["workloads"] = {"a-workload-of-a-long-name": chat, "code": chat}
    data["routes"] = {}
    data["cost_usd_per_hour"] = 1.28e13
    text = render_plan(Plan.model_validate(data))
    assert_readable(text)
    assert "12,800,000,000,000.00" in text
    assert rows(text, "Expect")["a-workload-of-a"][1:4] == ["1e+06", "99.10%", "95.00%"]


def test_a_moved_node_name_changes_nothing_in_the_text() -> None:
    moved = with_groups(G0, G1.model_copy(update={"gpu_ids": (GpuId(node="cheap-3", index=0),)}), G2)
    assert render_plan(moved) == render_plan(PLAN)


def test_long_reasons_keep_to_the_width() -> None:
    assert_readable(render_plan(changed(slack=(Slack(queue="q" * 150, copies=3, reason="a reason " * 40),))))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 7])
def test_real_plans_keep_to_the_width(seed: int, tmp_path: Path) -> None:
    write_tables(tmp_path)
    found = plan(random_spec(seed), tmp_path)
    text = render_plan(found)
    assert_readable(text)
    if found.groups:
        assert all(name in text for name in found.workloads)


def test_printable_and_wrapped() -> None:
    assert printable("a\x1bb\tc\n d\u200b") == "a?b c d?"
    assert printable("größe → 3 µs") == "größe → 3 µs"
    lines = wrapped("    " + "word " * 60).splitlines()
    assert len(lines) > 2 and all(len(line) <= WIDTH for line in lines)
    assert lines[0].startswith("    word") and all(line.startswith("      word") for line in lines[1:])
