"""Plan: edit a spec, plan it, see what to buy and what runs where."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from planner.pipeline import PlanOptions
from planner.plan_file import Plan, Relaxation
from planner.relax import change_of
from planner.spec import Spec
from planner.spec_load import Loaded
from profiles.errors import PlanningError
from ui import parts, tables
from ui.estimate import watch_plan
from ui.gpu_map import gpu_map, gpu_rows
from ui.jobs import Job
from ui.scenario import Scenario, digest, spec_text
from ui.session import Saved, Session, kept, known_plan, session, start_plan

PAGE = "plan"
WORKLOAD_FIELDS = {
    "requests/s": "traffic.rate_rps",
    "TTFT limit ms": "slo.ttft_ms",
    "TPOT limit ms": "slo.tpot_ms",
    "e2e limit ms": "slo.e2e_ms",
    "attainment": "slo.attainment",
    "priority": "priority",
}
POOL_FIELDS = {
    "nodes there": "nodes",
    "nodes to buy at most": "max_nodes",
    "price USD/GPU-h": "price_usd_per_gpu_hour",
    "billing": "billing",
}
WHOLE = {"priority", "nodes there", "nodes to buy at most"}


def page() -> None:
    """Draw the page."""
    state = session()
    st.title("Plan", anchor=False)
    if state.scenario is None:
        st.info(
            "This workspace holds no spec. Upload one in the sidebar, or start muxplan ui in a folder that has one.",
            icon=":material/upload_file:",
        )
        return
    loaded = _loaded(state.scenario)
    with st.expander(
        "The scenario: what must be served, and with what", expanded=state.plan is None, icon=":material/edit:"
    ):
        _edit(state, state.scenario, loaded)
    if loaded is None:
        return
    seed = _solve(state, state.scenario)
    job = state.plan_jobs.get(PAGE)
    if job is not None and job.of == digest(loaded):
        if job.running:
            watch_plan(job, PAGE)
            return
        _take_result(state, job)
    plan = _shown(state, seed)
    if plan is None:
        st.info("Press Plan to see what to buy and what runs where.", icon=":material/play_arrow:")
    elif plan.groups:
        _result(state, plan)
    else:
        parts.no_plan(plan, _taker(state, loaded), PAGE)


def _loaded(scenario: Scenario) -> Loaded | None:
    try:
        loaded = scenario.loaded()
        digest(loaded)
    except PlanningError as error:
        st.error("The spec cannot be planned as it stands:", icon=":material/error:")
        st.code(str(error), language=None, wrap_lines=True)
        return None
    return loaded


def _shown(state: Session, seed: int) -> Plan | None:
    if state.scenario is None:
        return None
    plan = known_plan(state.scenario, seed)
    if plan is not None:
        state.plan = Saved(plan=plan, folder=state.scenario.folder)
    return state.plan.plan if state.plan is not None and state.plan.plan.seed == seed else None


def _take_result(state: Session, job: Job[Plan]) -> None:
    if job.error is not None:
        st.error(parts.plain(job.error), icon=":material/error:")
    elif job.result is not None and state.scenario is not None:
        state.plan = Saved(plan=job.result, folder=state.scenario.folder)


def _edit(state: Session, scenario: Scenario, loaded: Loaded | None) -> None:
    forms, text = st.tabs(["Edit in forms", "Edit as YAML"])
    with forms:
        if loaded is None:
            st.caption("Mend the YAML first: the forms show a spec that can be read.")
        else:
            _forms(state, scenario, loaded.spec)
    with text:
        _yaml(state, scenario, loaded)
    if scenario.changes:
        shown = ", ".join(f"{path} = {value}" for path, value in scenario.changes.items())
        left, right = st.columns([5, 1], vertical_alignment="center")
        left.caption(f"Changed against the text: {parts.plain(shown)}")
        right.button("Undo changes", on_click=state.choose, args=(scenario.changed({}),), width="stretch")


def _forms(state: Session, scenario: Scenario, spec: Spec) -> None:
    mark = scenario.mark()
    workloads = pd.DataFrame([_workload(w) for w in spec.workloads])
    pools = pd.DataFrame(
        [{"pool": p.name, **{c: getattr(p, f) for c, f in POOL_FIELDS.items()}} for p in spec.cluster.pools]
    )
    measures = [column for column in WORKLOAD_FIELDS if column not in WHOLE]
    workloads = workloads.astype(dict.fromkeys(measures, "Float64"))
    for column in ("nodes there", "nodes to buy at most", "price USD/GPU-h"):
        pools[column] = pools[column].astype("Float64")
    pools = pools.astype({"nodes there": "Int64", "nodes to buy at most": "Int64"})
    st.caption("Workloads: what must be served. A double click or Enter edits a cell.")
    edited = st.data_editor(
        workloads, hide_index=True, placeholder="–", disabled=["workload", "model"], key=f"form-workloads-{mark}"
    )
    st.caption("Pools: what there is or can be bought. An empty price is the catalogue's.")
    edited_pools = st.data_editor(
        pools,
        hide_index=True,
        placeholder="–",
        disabled=["pool"],
        key=f"form-pools-{mark}",
        column_config={
            "billing": st.column_config.SelectboxColumn(options=["on_demand", "spot", "reserved"], required=True)
        },
    )
    found = {
        **_edits(workloads, edited, "workload", "workloads", WORKLOAD_FIELDS),
        **_edits(pools, edited_pools, "pool", "cluster.pools", POOL_FIELDS),
    }
    if found:
        apply(state, scenario, found)


def _workload(workload: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"workload": workload.name, "model": workload.model}
    for column, field in WORKLOAD_FIELDS.items():
        value = workload
        for name in field.split("."):
            value = getattr(value, name)
        row[column] = value if column in WHOLE or value is None else float(value)
    return row


def _edits(old: pd.DataFrame, new: pd.DataFrame, name: str, at: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Path → value of the cells that differ."""
    found: dict[str, Any] = {}
    for before, after in zip(old.to_dict("records"), new.to_dict("records"), strict=True):
        for column, field in fields.items():
            was, now = _plain_value(before[column], column), _plain_value(after[column], column)
            if was != now:
                found[f"{at}.{before[name]}.{field}"] = now
    return found


def _plain_value(value: Any, column: str) -> Any:
    if pd.isna(value):
        return None
    if isinstance(value, str):
        return value
    return int(value) if column in WHOLE else float(value)


def apply(state: Session, scenario: Scenario, changes: Mapping[str, Any]) -> None:
    """Take changes into the scenario when the spec stands them, else say why not."""
    changed = scenario.changed({**scenario.changes, **changes})
    try:
        changed.loaded()
    except PlanningError as error:
        st.error(parts.plain(str(error)), icon=":material/error:")
        return
    state.choose(changed)
    st.rerun()


def _yaml(state: Session, scenario: Scenario, loaded: Loaded | None) -> None:
    shown = spec_text(loaded) if loaded is not None and scenario.changes else scenario.text
    mark = scenario.mark()
    text = st.text_area("The spec", shown, height=420, key=f"yaml-{mark}", label_visibility="collapsed")
    left, right, _ = st.columns([1, 1, 3])
    if left.button("Use this text", disabled=text == shown, icon=":material/check:", width="stretch"):
        state.choose(Scenario(text=text, folder=scenario.folder, root=scenario.root))
        st.rerun()
    right.download_button(
        "Spec as YAML",
        lambda: text,
        file_name="spec.yaml",
        mime="application/yaml",
        icon=":material/download:",
        on_click="ignore",
    )


def _solve(state: Session, scenario: Scenario) -> int:
    """The button that plans, and its settings; the seed comes back."""
    left, seed, limit, _ = st.columns([1.2, 1, 1, 3], vertical_alignment="bottom")
    chosen_seed = seed.number_input("Random seed", 0, 2**32 - 1, key=kept("plan-seed", 0))
    chosen_limit = limit.number_input("Time limit, s", 1, 3600, key=kept("plan-limit", 60))
    running = PAGE in state.plan_jobs and state.plan_jobs[PAGE].running
    left.button(
        "Plan",
        type="primary",
        icon=":material/play_arrow:",
        disabled=running,
        width="stretch",
        key="plan-go",
        on_click=_start,
        args=(scenario, PlanOptions(seed=int(chosen_seed), wall_limit_s=float(chosen_limit))),
    )
    return int(chosen_seed)


def _start(scenario: Scenario, options: PlanOptions) -> None:
    start_plan(PAGE, scenario, options)


def _taker(state: Session, loaded: Loaded) -> Any:
    def take(one: Relaxation) -> None:
        change = change_of(loaded, one)
        if change is None or state.scenario is None:
            return
        path, value = change
        state.choose(state.scenario.changed({**state.scenario.changes, path: value}))
        start_plan(PAGE, state.scenario, PlanOptions())

    return take


def _result(state: Session, plan: Plan) -> None:
    parts.headline(plan)
    _keep(state, plan)
    st.subheader("Where everything runs", anchor=False)
    rows = gpu_rows(plan)
    parts.chart(gpu_map(plan, rows), rows, f"{plan.name}-gpus", "Each GPU of the plan, coloured by its model")
    st.subheader("Buy", anchor=False)
    tables.show_table(tables.pool_rows(plan), "pools")
    st.subheader("What limits each workload", anchor=False)
    tables.show_text(tables.reason_rows(plan))
    st.subheader("Expect", anchor=False)
    tables.show_table(tables.traffic_rows(plan), "traffic")
    st.caption(tables.evidence_legend(plan))
    tables.show_table(tables.latency_rows(plan), "latencies")
    _notes(plan)


def _keep(state: Session, plan: Plan) -> None:
    name, save, yaml, _ = st.columns([2, 1.4, 1.4, 0.6], vertical_alignment="bottom")
    chosen = name.text_input("Keep as", value=plan.name, key=f"keep-name-{plan.name}", max_chars=60)
    if save.button("Keep to compare", icon=":material/bookmark:", width="stretch") and state.plan is not None:
        state.save(chosen.strip() or plan.name, state.plan)
        st.toast(f"Kept as {chosen}.")
    with yaml:
        parts.plan_downloads(plan, PAGE)


def _notes(plan: Plan) -> None:
    for title, lines in (
        ("Unmet", [f"{name}: {rate:g} requests/s" for name, rate in plan.unmet.items()]),
        ("Slack", [f"{s.queue} ({s.copies} copies): {s.reason}" for s in plan.slack]),
        ("Assumed", list(plan.assumptions)),
    ):
        if lines:
            with st.expander(f"{title} ({len(lines)})"):
                st.markdown("\n".join(f"- {parts.plain(line)}" for line in lines))
