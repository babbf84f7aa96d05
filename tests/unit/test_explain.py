"""Why a plan is as it is: shares of its cost, the limit that is nearest, and what is idle."""

from dataclasses import asdict
from typing import Any

import pytest

from planner.explain import explain_plan, reasons_as_data, render_explanation
from planner.plan_file import Plan, Route
from planner.render_plan import render_plan
from tests.hand_plan import CHAT, NO_PLAN, PLAN, changed, percentiles, with_workload
from tests.spec_fixtures import model, plan, pool, spec, workload

LONE = changed(
    routes={"chat": PLAN.routes["chat"][:2], "code": PLAN.routes["code"]},
    gpu_counts={name: c.model_copy(update={"bought": c.used}) for name, c in PLAN.gpu_counts.items()},
)


def limited(**fields: Any) -> str:
    """What limits the workload `chat` when its figures are these."""
    return explain_plan(with_workload("chat", **fields))[0].limited_by


def test_gpus_and_cost_of_a_shared_group_are_counted_in_equal_parts() -> None:
    chat, code = explain_plan(PLAN)
    assert (chat.workload, code.workload) == ("chat", "code")
    assert chat.gpus == 1 + 1 + 2 / 2 and code.gpus == 2 / 2
    used_usd = 2 * 0.8 + 2 * 2.0
    assert chat.share_of_cost == pytest.approx((2 * 0.8 + 2.0) / used_usd)
    assert code.share_of_cost == pytest.approx(2.0 / used_usd)
    assert chat.load_fraction == pytest.approx(12 / 20)


def test_two_routes_to_one_group_make_one_user_of_it() -> None:
    """Length classes of a workload may go to the same group by two routes."""
    twice = (
        Route(group="g2", weight_fraction=0.5, input_tokens_max=100),
        Route(group="g2", weight_fraction=0.5),
    )
    chat, code = explain_plan(changed(routes={"chat": PLAN.routes["chat"][:2], "code": twice}))
    assert code.gpus == 2.0 and code.share_of_cost == pytest.approx(4.0 / 5.6)
    assert chat.gpus == 2.0 and chat.share_of_cost == pytest.approx(1.6 / 5.6)
    assert code.served_by == "1 × bf16 at tp 2 pp 1 on fast"


@pytest.mark.parametrize("whole", [PLAN, LONE], ids=["shared", "apart"])
def test_shares_of_what_is_used_sum_to_one(whole: Plan) -> None:
    reasons = explain_plan(whole)
    assert sum(reason.share_of_cost for reason in reasons) == pytest.approx(1.0)
    assert sum(reason.gpus for reason in reasons) == pytest.approx(sum(c.used for c in whole.gpu_counts.values()))


def test_copies_are_counted_by_what_they_are() -> None:
    chat, code = explain_plan(PLAN)
    assert chat.served_by == "2 × bf16 at tp 1 pp 1 on cheap, 1 × bf16 at tp 2 pp 1 on fast"
    assert code.served_by == "1 × bf16 at tp 2 pp 1 on fast"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "limited by TTFT (p99 TTFT 720.0 of 800 ms)"),
        ({"tpot_ms": percentiles(58.0)}, "limited by TPOT (p99 TPOT 58.0 of 60 ms)"),
        (
            {"slo": {"ttft_ms": 800.0, "e2e_ms": 4100.0}},
            "limited by end to end (p99 end to end 4,000.0 of 4,100 ms)",
        ),
        (
            {"ttft_ms": percentiles(400.0), "served_rps": 19.0},
            "limited by its throughput: 19 of 20 requests/s (p99 TTFT 400.0 of 800 ms)",
        ),
        (
            {"ttft_ms": percentiles(400.0)},
            "not near a limit (p99 TTFT 400.0 of 800 ms): a whole replica, a rule or the buying unit gives it room",
        ),
        ({"slo": {}, "best_effort": True}, "it has no limit: it takes what is left"),
        ({"slo": {}}, "its capacity table is the limit"),
        ({"slo": {"ttft_ms": 800.0}, "ttft_ms": None}, "its capacity table is the limit"),
    ],
)
def test_the_nearest_limit_is_named(fields: dict[str, Any], expected: str) -> None:
    assert limited(**fields) == expected


def test_a_workload_that_is_not_served_has_no_reason() -> None:
    assert [r.workload for r in explain_plan(changed(routes={"chat": PLAN.routes["chat"], "code": ()}))] == ["chat"]
    assert explain_plan(NO_PLAN) == []


def test_free_gpus_and_an_unknown_capacity_do_not_divide_by_zero() -> None:
    free = {name: c.model_copy(update={"price_usd_per_gpu_hour": 0.0}) for name, c in PLAN.gpu_counts.items()}
    workloads = {**PLAN.workloads, "chat": CHAT.model_copy(update={"capacity_rps": 0.0})}
    chat = explain_plan(changed(gpu_counts=free, workloads=workloads))[0]
    assert chat.share_of_cost == 0.0 and chat.load_fraction is None


def test_text_says_what_is_idle_what_is_possible_and_what_is_slack() -> None:
    text = render_explanation(PLAN)
    assert "cheap: 2 of 4 GPUs are bought and idle" in text
    assert "fast:" not in text
    assert "No plan of this scope costs less than 6.00 USD/h" in text
    assert "The bound knows no bursts" in text
    assert "chat@tiny-cheap: one copy less misses by chance" in text
    assert "  1 GPU, 36% of what is used" in text and "  3 GPUs, 64% of what is used" in text


def test_text_says_nothing_about_what_is_not_there() -> None:
    text = render_explanation(changed(LONE, bound_fluid=None, gap_fluid_fraction=None, slack=()))
    for words in ("idle", "bound", "No plan", "slack", "None"):
        assert words not in text


def test_no_plan_is_explained_by_what_conflicts() -> None:
    assert render_explanation(NO_PLAN) == render_plan(NO_PLAN)
    assert "constraints[0]: budget (usd_per_hour 1)" in render_explanation(NO_PLAN)


def test_text_keeps_to_100_columns_and_to_printable_characters() -> None:
    name = "\x1b[31mred\x07\r\n" + "z" * 40
    other = changed(
        name=name,
        workloads={name: CHAT, "code": PLAN.workloads["code"]},
        routes={name: PLAN.routes["chat"], "code": PLAN.routes["code"]},
        bound_scope="many words " * 40 + "w" * 200,
    )
    text = render_explanation(other)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "?[31mred?" in text


def test_data_holds_every_reason() -> None:
    assert reasons_as_data(explain_plan(PLAN)) == [asdict(reason) for reason in explain_plan(PLAN)]


def test_a_real_plan_adds_up() -> None:
    found = plan(
        spec(
            pools=[pool(buy="gpu"), pool("big", "l40s-48gb", buy="gpu")],
            models=[model(), model("large", "llama-3.1-8b")],
            workloads=[workload(), workload("talk", traffic={"rate_rps": 2.0}), workload("code", model="large")],
        )
    )
    reasons = explain_plan(found)
    assert [r.workload for r in reasons] == ["chat", "talk", "code"]
    assert sum(r.share_of_cost for r in reasons) == pytest.approx(1.0)
    assert sum(r.gpus for r in reasons) == pytest.approx(sum(len(g.gpu_ids) for g in found.groups))
    assert all(r.load_fraction is not None and 0 < r.load_fraction <= 1 for r in reasons)
