"""What-if: drag traffic, limits, prices, supply and failures, and see the plan change."""

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from planner.diff import diff_plans
from planner.pipeline import PlanOptions
from planner.plan_file import Plan
from planner.spec_load import Loaded
from planner.spec_resolve import resolve
from profiles.errors import PlanningError
from ui import parts, tables
from ui.colours import PALETTE
from ui.estimate import watch_plan
from ui.gpu_map import gpu_map, gpu_rows
from ui.scenario import Scenario, digest
from ui.session import Saved, Session, kept, known_plan, session, start_plan, start_sweep
from ui.views.plan import apply

PAGE = "what-if"
ALL_TRAFFIC = "workloads.*.traffic.rate_rps"
LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")
FACTORS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
SWING = (0.8, 1.25)
SHORT = {
    "rate_rps": "traffic",
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "e2e_ms": "e2e",
    "price_usd_per_gpu_hour": "USD/GPU-h",
    "nodes": "nodes",
    "max_nodes": "nodes",
}
FIRST_ANSWER_S = 1.0
"""The page waits so long for an estimate before it shows progress only."""


def page() -> None:
    """Draw the page."""
    state = session()
    st.title("What if", anchor=False)
    if state.scenario is None:
        st.info("Choose or upload a spec in the sidebar first.", icon=":material/upload_file:")
        return
    try:
        loaded = state.scenario.loaded()
        changes = _sliders(loaded, state.scenario.mark())
        scenario = state.scenario.changed({**state.scenario.changes, **changes})
        key = digest(scenario.loaded())
    except PlanningError as error:
        st.error(parts.plain(str(error)), icon=":material/error:")
        return
    _answer(state, scenario, key, changes)
    _studies(state, scenario, scenario.loaded())


def _sliders(loaded: Loaded, mark: str) -> dict[str, Any]:
    """Path → value of everything that a slider has moved."""
    one, two, three = st.columns(3)
    changes: dict[str, Any] = {}
    traffic = one.slider("All traffic ×", 0.1, 3.0, step=0.05, key=kept(f"all-traffic-{mark}", 1.0))
    limits = two.slider("All latency limits ×", 0.3, 3.0, step=0.05, key=kept(f"all-limits-{mark}", 1.0))
    losses = ["nothing", "node", "rack", "zone"]
    loss = three.selectbox("Keep serving after the loss of any one", losses, key=kept(f"loss-{mark}", losses[0]))
    if traffic != 1.0:
        changes[ALL_TRAFFIC] = f"x{traffic:g}"
    if limits != 1.0:
        changes.update(_limits("*", limits, loaded))
    with st.expander("One workload"):
        changes.update(_one_workload(loaded, mark))
    with st.expander("Prices and supply"):
        changes.update(_pools(loaded, mark))
    if loss != "nothing":
        rules = [rule.model_dump(mode="json") for rule in loaded.spec.constraints]
        served = [w.name for w in loaded.spec.workloads if not w.best_effort]
        changes["constraints"] = [*rules, *({"kind": "survive", "workload": w, "loss": loss} for w in served)]
    return changes


def _limits(workload: str, factor: float, loaded: Loaded) -> dict[str, str]:
    slos = [w.slo for w in loaded.spec.workloads if workload in ("*", w.name)]
    given = [limit for limit in LIMITS if any(getattr(slo, limit) is not None for slo in slos)]
    return {f"workloads.{workload}.slo.{limit}": f"x{factor:g}" for limit in given}


def _one_workload(loaded: Loaded, mark: str) -> dict[str, Any]:
    one, two, three = st.columns(3)
    names = [w.name for w in loaded.spec.workloads]
    name = str(one.selectbox("Workload", names, key=kept(f"one-name-{mark}", names[0])))
    two.slider("Its traffic ×", 0.1, 5.0, step=0.05, key=kept(f"one-traffic-{name}-{mark}", 1.0))
    three.slider("Its latency limits ×", 0.3, 3.0, step=0.05, key=kept(f"one-limits-{name}-{mark}", 1.0))
    changes: dict[str, Any] = {}
    # Those of the workloads that are not shown count as well.
    for other in names:
        traffic = st.session_state[kept(f"one-traffic-{other}-{mark}", 1.0)]
        limits = st.session_state[kept(f"one-limits-{other}-{mark}", 1.0)]
        if traffic != 1.0:
            changes[f"workloads.{other}.traffic.rate_rps"] = f"x{traffic:g}"
        if limits != 1.0:
            changes.update(_limits(other, limits, loaded))
    return changes


def _pools(loaded: Loaded, mark: str) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for pool in resolve(loaded).pools:
        one, two = st.columns(2)
        price = pool.price_usd_per_gpu_hour
        label, dearest = f"{pool.name}: USD per GPU-hour", max(1.0, 3 * price)
        set_price = one.slider(label, 0.0, dearest, step=0.01, key=kept(f"price-{pool.name}-{mark}", price))
        label, most = f"{pool.name}: nodes at most", max(8, 2 * pool.max_nodes)
        nodes = two.slider(label, 1, most, key=kept(f"nodes-{pool.name}-{mark}", pool.max_nodes))
        if set_price != price:
            changes[f"cluster.pools.{pool.name}.price_usd_per_gpu_hour"] = set_price
        if nodes != pool.max_nodes:
            changes[f"cluster.pools.{pool.name}.{'nodes' if pool.given else 'max_nodes'}"] = nodes
    return changes


def _answer(state: Session, scenario: Scenario, key: str, changes: dict[str, Any]) -> None:
    plan = known_plan(scenario)
    job = state.plan_jobs.get(PAGE)
    if plan is None and (job is None or job.of != key):
        job = start_plan(PAGE, scenario, PlanOptions())
        job.wait_for_mix(FIRST_ANSWER_S)
    if plan is None and job is not None:
        if job.running:
            watch_plan(job, PAGE, _base_cost(state))
            return
        if job.error is not None:
            st.error(parts.plain(job.error), icon=":material/error:")
        plan = job.result
    if plan is not None:
        _show(state, scenario, plan, changes)


def _base_cost(state: Session) -> float | None:
    base = known_plan(state.scenario) if state.scenario is not None else None
    return None if base is None else base.cost_usd_per_hour


def _show(state: Session, scenario: Scenario, plan: Plan, changes: dict[str, Any]) -> None:
    if not plan.groups:
        parts.no_plan(plan, None, PAGE)
        return
    parts.headline(plan)
    base = known_plan(state.scenario) if state.scenario is not None else None
    if changes and base is not None and base.groups:
        _changes(base, plan)
    name, keep, take, _ = st.columns([2, 1.4, 1.8, 0.8], vertical_alignment="bottom")
    said = _name(plan, changes)
    chosen = name.text_input("Keep as", value=said, key=f"what-if-name-{said}", max_chars=60)
    if keep.button("Keep to compare", icon=":material/bookmark:", width="stretch"):
        state.save(chosen, Saved(plan=plan, folder=scenario.folder))
        st.toast(f"Kept as {chosen}.")
    if take.button("Make this the scenario", icon=":material/check:", width="stretch", disabled=not changes):
        apply(state, scenario.baked(), {})
    rows = gpu_rows(plan)
    parts.chart(gpu_map(plan, rows), rows, f"{plan.name}-what-if-gpus", "Each GPU of the plan, coloured by its model")
    tables.show_text(tables.reason_rows(plan))


def _name(plan: Plan, changes: dict[str, Any]) -> str:
    said = ", ".join(_said(path, value) for path, value in changes.items() if path != "constraints")
    return f"{plan.name} {said}".strip()[:60]


def _said(path: str, value: Any) -> str:
    """`workloads.chat.traffic.rate_rps` = `x1.1` as `chat traffic ×1.1`."""
    *_, last = path.split(".")
    owner = path.split(".")[2 if path.startswith("cluster.") else 1].replace("*", "")
    return f"{owner} {SHORT[last]} {str(value).replace('x', '×')}".strip()


def _changes(base: Plan, plan: Plan) -> None:
    before, after = base.cost_usd_per_hour or 0.0, plan.cost_usd_per_hour or 0.0
    change = f" ({after / before - 1:+.1%})" if before else ""
    moved = f"**{after - before:+,.2f} USD/h**{change}" if round(after - before, 2) else "**The same cost**"
    st.markdown(f"{moved} against the scenario as it stands.")
    found = diff_plans(base, plan)
    with st.expander(f"What changes ({len(found)})"):
        rows = pd.DataFrame([{"what": c.subject, "was": c.old or "–", "is": c.new or "–"} for c in found])
        tables.show_text(rows)


def _studies(state: Session, scenario: Scenario, loaded: Loaded) -> None:
    st.divider()
    left, right = st.columns(2)
    with left:
        st.subheader("What matters most", anchor=False)
        st.caption(f"Each figure × {SWING[0]:g} and × {SWING[1]:g}, one at a time: what the plan then costs.")
        _study(state, scenario, "tornado", swings(loaded), _tornado)
    with right:
        st.subheader("Cost against latency", anchor=False)
        st.caption("All latency limits tightened and loosened together: the cheapest plan for each.")
        _study(state, scenario, "pareto", [_limits("*", factor, loaded) for factor in FACTORS], _pareto)


def swings(loaded: Loaded) -> list[dict[str, Any]]:
    """One variant a figure and direction: traffic and limits of each workload, price of each pool."""
    found: list[dict[str, Any]] = []
    for factor in SWING:
        for workload in loaded.spec.workloads:
            if workload.traffic.rate_rps is not None:
                found.append({f"workloads.{workload.name}.traffic.rate_rps": f"x{factor:g}"})
            if any(getattr(workload.slo, limit) is not None for limit in LIMITS):
                found.append(dict(_limits(workload.name, factor, loaded)))
        for pool in resolve(loaded).pools:
            price = round(pool.price_usd_per_gpu_hour * factor, 4)
            found.append({f"cluster.pools.{pool.name}.price_usd_per_gpu_hour": price})
    return found


def _study(state: Session, scenario: Scenario, name: str, variants: list[dict[str, Any]], draw: Any) -> None:
    job = state.sweep_jobs.get(name)
    fresh = job is not None and job.of == digest(scenario.loaded())
    if fresh and job is not None and job.running:
        parts.watch(job, name)
        return
    if not fresh:
        st.button(
            f"Plan {len(variants)} variants",
            key=f"{name}-go",
            icon=":material/tune:",
            on_click=start_sweep,
            args=(name, scenario, variants),
        )
    if fresh and job is not None and job.error is not None:
        st.error(parts.plain(job.error), icon=":material/error:")
    elif fresh and job is not None and job.result:
        draw(scenario, job.result)


def _label(row: dict[str, Any]) -> str:
    path = next(p for p in row if "." in p and p.startswith(("workloads.", "cluster.")))
    parts_of = path.split(".")
    if parts_of[0] == "cluster":
        return f"{'.'.join(parts_of[2:-1])}: price"
    name = path.removeprefix("workloads.").rsplit(".", 2)[0]
    return f"{name}: {'traffic' if path.endswith('rate_rps') else 'latency limits'}"


def _tornado(scenario: Scenario, rows: list[dict[str, Any]]) -> None:
    base = known_plan(scenario)
    if base is None or base.cost_usd_per_hour is None:
        st.caption("The scenario itself has no plan to compare with.")
        return
    variants = swings(scenario.loaded())
    half = len(variants) // 2
    found = pd.DataFrame(
        [
            {
                "figure": _label(row),
                "factor": f"× {SWING[0 if number < half else 1]:g}",
                "USD/h": row.get("cost_usd_per_hour"),
                "base": base.cost_usd_per_hour,
                "ended": row["termination"],
            }
            for number, row in enumerate(rows)
        ]
    )
    none = found[found["USD/h"].isna()]
    found = found.dropna(subset=["USD/h"])
    found["moves"] = (found["USD/h"] - found["base"]).abs()
    order = found.groupby("figure")["moves"].max().sort_values(ascending=False).index.tolist()
    made = (
        alt.Chart(found)
        .mark_bar(height=10)
        .encode(
            x=alt.X("base:Q", title="cost, USD/h", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
            x2="USD/h:Q",
            y=alt.Y("figure:N", sort=order, title=None, axis=alt.Axis(labelLimit=220)),
            yOffset="factor:N",
            color=alt.Color(
                "factor:N", scale=alt.Scale(range=list(PALETTE[:2])), legend=alt.Legend(orient="top", title=None)
            ),
            tooltip=[
                "figure",
                "factor",
                alt.Tooltip("USD/h", format=",.2f"),
                alt.Tooltip("base", format=",.2f"),
                "ended",
            ],
        )
        .properties(height=110 + 28 * len(order))
    )
    parts.chart(made, found, "tornado", "How far each figure moves the cost")
    if len(none):
        st.caption("No plan with " + ", ".join(f"{r.figure} {r.factor}" for r in none.itertuples()) + ".")


def _pareto(_scenario: Scenario, rows: list[dict[str, Any]]) -> None:
    found = pd.DataFrame(
        [
            {
                "limits ×": factor,
                "USD/h": row.get("cost_usd_per_hour"),
                "bound": row.get("bound_fluid"),
                "ended": row["termination"],
            }
            for factor, row in zip(FACTORS, rows, strict=False)
        ]
    )
    priced = found.dropna(subset=["USD/h"])
    if priced.empty:
        st.caption("None of the variants has a plan.")
        return
    # Nothing tighter is as cheap: walking from the tightest, each new cheapest one stands on the front.
    found["on the front"] = found["USD/h"] < found["USD/h"].cummin().shift(fill_value=float("inf"))
    x = alt.X("limits ×:Q", title="latency limits × (1 = as in the scenario)", scale=alt.Scale(zero=False))
    base = alt.Chart(found.dropna(subset=["USD/h"]))
    line = base.mark_line(color=PALETTE[0]).encode(x=x, y=alt.Y("USD/h:Q", title="USD/h", scale=alt.Scale(zero=False)))
    points = base.mark_point(size=90, filled=True, color=PALETTE[0]).encode(
        x=x,
        y="USD/h:Q",
        opacity=alt.condition("datum['on the front']", alt.value(1.0), alt.value(0.35)),
        tooltip=[
            "limits ×",
            alt.Tooltip("USD/h", format=",.2f"),
            alt.Tooltip("bound", format=",.2f"),
            "on the front",
            "ended",
        ],
    )
    bound = base.mark_line(strokeDash=[4, 4], color=PALETTE[1]).encode(x=x, y=alt.Y("bound:Q", title="USD/h"))
    parts.chart((line + points + bound).properties(height=300), found, "pareto", "Cost against latency limits")
    st.caption("Dashed: no plan costs less. Pale points: a tighter limit costs no more.")
