"""Compare: two or more plans side by side, and what moves from the first to the others."""

import altair as alt
import pandas as pd
import streamlit as st

from planner.diff import diff_plans
from planner.plan_file import Plan
from profiles.errors import PlanningError
from ui import parts, tables
from ui.choice import CURRENT, opened, plans, upload_plan
from ui.colours import PALETTE, colours
from ui.session import session

PAGE = "compare"


def page() -> None:
    """Draw the page."""
    state = session()
    st.title("Compare", anchor=False)
    with st.expander("Upload plan files"):
        upload_plan(state, PAGE)
    found = plans()
    if len(found) < 2:
        st.info(
            "Two plans are needed: keep some on the Plan and What-if pages (Keep to compare), or upload plan files.",
            icon=":material/compare:",
        )
    others = [name for name in found if name != CURRENT]
    default = others if len(others) > 1 else list(found)
    chosen = st.multiselect("Plans; the first is what the others are compared with", list(found), default=default[:4])
    try:
        picked = {name: opened(found[name]).plan for name in chosen}
    except PlanningError as error:
        st.error(parts.plain(str(error)), icon=":material/error:")
        return
    if len(picked) < 2:
        return
    _figures(picked)
    _charts(picked)
    _attainment(picked)
    _moves(picked)


def _figures(picked: dict[str, Plan]) -> None:
    st.subheader("Side by side", anchor=False)
    tables.show_table(pd.DataFrame([_row(name, plan) for name, plan in picked.items()]), "compare")


def _row(name: str, plan: Plan) -> dict[str, object]:
    return {
        "plan": name,
        "USD/h": plan.cost_usd_per_hour,
        "bound USD/h": plan.bound_fluid,
        "gap %": None if plan.gap_fluid_fraction is None else 100 * plan.gap_fluid_fraction,
        "GPUs": sum(c.bought for c in plan.gpu_counts.values()),
        "used": sum(c.used for c in plan.gpu_counts.values()),
        **{f"GPUs of {pool}": count.bought for pool, count in plan.gpu_counts.items()},
        "SLOs": "held" if plan.verified is not None and plan.verified.held else "not held",
        "ended": plan.termination,
    }


def _charts(picked: dict[str, Plan]) -> None:
    costs = pd.DataFrame(
        [
            {"plan": name, "pool": pool, "USD/h": c.bought * c.price_usd_per_gpu_hour, "GPUs": c.bought}
            for name, plan in picked.items()
            for pool, c in plan.gpu_counts.items()
        ]
    )
    by_pool = colours(costs["pool"])
    left, right = st.columns(2)
    for column, field in ((left, "USD/h"), (right, "GPUs")):
        made = (
            alt.Chart(costs)
            .mark_bar()
            .encode(
                x=alt.X(f"sum({field}):Q", title=field),
                y=alt.Y("plan:N", sort=list(picked), title=None, axis=alt.Axis(labelLimit=240)),
                color=alt.Color(
                    "pool:N",
                    scale=alt.Scale(domain=list(by_pool), range=list(by_pool.values())),
                    legend=alt.Legend(orient="top", title=None),
                ),
                tooltip=["plan", "pool", alt.Tooltip("USD/h", format=",.2f"), "GPUs"],
            )
            .properties(height=120 + 40 * len(picked))
        )
        with column:
            parts.chart(made, costs, f"compare-{field.replace('/', '-per-').lower()}", f"{field} of each plan by pool")


def _attainment(picked: dict[str, Plan]) -> None:
    rows = pd.DataFrame(
        [
            {
                "plan": name,
                "workload": workload,
                "attained %": 100 * result.attainment,
                "asked %": 100 * (result.attainment_target or 0.0),
                "TTFT p99 ms": result.ttft_ms.p99 if result.ttft_ms else None,
                "TPOT p99 ms": result.tpot_ms.p99 if result.tpot_ms else None,
            }
            for name, plan in picked.items()
            for workload, result in plan.workloads.items()
            if result.attainment is not None and not result.best_effort
        ]
    )
    if rows.empty:
        return
    st.subheader("SLO attainment", anchor=False)
    y = alt.Y("workload:N", title=None, sort=None)
    points = (
        alt.Chart(rows)
        .mark_point(filled=True, size=110)
        .encode(
            x=alt.X("attained %:Q", scale=alt.Scale(zero=False), title="requests within their limits, %"),
            y=y,
            yOffset="plan:N",
            color=alt.Color(
                "plan:N",
                sort=list(picked),
                scale=alt.Scale(range=list(PALETTE)),
                legend=alt.Legend(orient="top", title=None, labelLimit=300),
            ),
            shape=alt.Shape("plan:N", sort=list(picked), legend=None),
            tooltip=["plan", "workload", alt.Tooltip("attained %", format=".2f"), alt.Tooltip("asked %", format=".2f")],
        )
    )
    asked = (
        alt.Chart(rows).mark_tick(thickness=3, color="#888").encode(x="asked %:Q", y=y, tooltip=["workload", "asked %"])
    )
    made = (asked + points).properties(height=120 + (16 + 14 * len(picked)) * rows["workload"].nunique())
    parts.chart(made, rows, "compare-attainment", "Attainment of each workload under each plan")
    st.caption("Grey: what is asked.")


def _moves(picked: dict[str, Plan]) -> None:
    (first, base), *others = picked.items()
    st.subheader("What changes", anchor=False)
    for name, plan in others:
        changes = diff_plans(base, plan)
        st.markdown(f"From **{parts.plain(first)}** to **{parts.plain(name)}**: {len(changes) or 'no'} changes")
        if changes:
            rows = pd.DataFrame([{"what": c.subject, "was": c.old or "–", "is": c.new or "–"} for c in changes])
            tables.show_text(rows)
