"""Simulate: a plan on fresh traffic or on a recorded trace, with its latencies and queues over time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from planner.plan_file import Plan
from planner.progress import Progress
from planner.replay import Traffic, replay, replay_as_data
from planner.timeline import Timeline, timelines
from profiles.errors import PlanningError
from ui import parts, tables
from ui.choice import choose_plan
from ui.colours import LIMIT, PALETTE
from ui.gpu_map import model_colours
from ui.jobs import Job
from ui.session import Saved, Session, kept, session, shared
from ui.workspace import TABLE_SUFFIXES, store_upload

PAGE = "simulate"
QUANTILES = np.concatenate([np.linspace(0.0, 0.95, 96), np.linspace(0.951, 0.9999, 80)])
LATENCIES = {"ttft_ms": "TTFT", "tpot_ms": "TPOT", "e2e_ms": "e2e"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What a simulation gave, as `muxplan simulate --json` says it, and over time."""

    plan: Plan
    data: Mapping[str, Any]
    timelines: tuple[Timeline, ...]


def page() -> None:
    """Draw the page."""
    state = session()
    st.title("Simulate", anchor=False)
    chosen = choose_plan(PAGE)
    if chosen is None:
        return
    traffic = _traffic(state, chosen.plan)
    running = state.replay_job is not None and state.replay_job.running
    st.button(
        "Simulate",
        type="primary",
        icon=":material/play_arrow:",
        disabled=running or traffic is None,
        on_click=start_replay,
        args=(state, chosen, traffic),
    )
    job = state.replay_job
    if job is None:
        st.caption("The plan's replicas, queues and routers are simulated step by step on traffic it was not made on.")
    elif job.running:
        parts.watch(job, PAGE)
    elif job.error is not None:
        st.error(parts.plain(state.said(job.error)), icon=":material/error:")
    elif job.result is None:
        st.caption("Stopped before the end.")
    elif job.result.plan != chosen.plan:
        st.caption("Another plan was simulated last: press Simulate for this one.")
    else:
        _show(job.result)


def start_replay(state: Session, chosen: Saved, traffic: Traffic) -> None:
    """Simulate in the background."""

    def work(progress: Progress, cancelled: Callable[[], bool]) -> Simulated:
        # Half a simulation is none: who stops it drops it.
        progress.abandoned = cancelled
        progress.say("simulating")
        found = replay(chosen.plan, chosen.folder, traffic, progress)
        return Simulated(plan=chosen.plan, data=replay_as_data(found), timelines=tuple(timelines(found)))

    state.replay_job = Job(what="simulating")
    state.replay_job.start(work, shared().turns)


def _traffic(state: Session, plan: Plan) -> Traffic | None:
    one, two, three = st.columns(3)
    draws = one.number_input("Independent draws", 1, 50, key=kept("sim-draws", 8))
    seed = two.number_input("Seed (1: not the draws that planned it)", 0, 2**32 - 1, key=kept("sim-seed", 1))
    seconds = three.number_input("Seconds of traffic (0: as many as needed)", 0, 86_400, key=kept("sim-duration", 0))
    trace = workload = None
    with st.expander("Replay a recorded trace"):
        st.caption("CSV (also .gz) with arrival_s,input_tokens,output_tokens; it replaces the traffic of one workload.")
        file = st.file_uploader("Trace", type=[s.removeprefix(".") for s in TABLE_SUFFIXES], key="sim-trace")
        workload = str(st.selectbox("Workload that it belongs to", list(plan.workloads), key="sim-workload"))
        if file is not None:
            try:
                trace = store_upload(state.upload_folder(), file.name, file.getvalue(), TABLE_SUFFIXES)
            except PlanningError as error:
                st.error(parts.plain(str(error)), icon=":material/error:")
                return None
    return Traffic(
        draws=int(draws),
        seed=int(seed),
        duration_s=float(seconds) or None,
        trace=trace,
        workload=workload if trace is not None else None,
    )


def _show(found: Simulated) -> None:
    workloads: Mapping[str, Any] = found.data["workloads"]
    missed = [name for name, one in workloads.items() if not one["met"]]
    if missed:
        st.error(f"**Missed**: {parts.plain(', '.join(missed))}.", icon=":material/close:")
    else:
        st.success("Every workload met its target on this traffic.", icon=":material/check:")
    tables.show_table(pd.DataFrame([_row(name, one) for name, one in workloads.items()]), "simulated")
    speed = found.data["requests_per_wall_s"]
    st.caption(f"{found.data['requests']:,} requests simulated" + (f", {speed:,.0f} a second." if speed else "."))
    if not found.timelines:
        st.caption("Nothing was simulated request by request: all is known by capacity tables only.")
        return
    name = st.selectbox("Workload", [t.workload for t in found.timelines], key="sim-shown")
    line = next(t for t in found.timelines if t.workload == name)
    result = found.plan.workloads[line.workload]
    colour = model_colours(found.plan)[result.model]
    _latencies(line, result.slo, colour)
    _over_time(line, colour)


def _row(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    target = one["attainment_target"]
    latency = {f"{said} {p} ms": (one[field] or {}).get(p) for field, said in LATENCIES.items() for p in ("p50", "p99")}
    return {
        "workload": name,
        "requests": one["requests"],
        "attained %": 100 * one["attainment"],
        "asked %": None if target is None else 100 * target,
        "met": "yes" if one["met"] else "NO",
        **latency,
    }


def _latencies(line: Timeline, slo: Mapping[str, float], colour: str) -> None:
    st.subheader("Latencies against their limits", anchor=False)
    shown = [field for field in LATENCIES if np.isfinite(getattr(line, field)).any()]
    for column, field in zip(st.columns(len(shown)), shown, strict=True):
        values = getattr(line, field)
        values = values[np.isfinite(values)]
        rows = pd.DataFrame({"ms": np.quantile(values, QUANTILES), "% of requests": 100 * QUANTILES})
        made: Any = (
            alt.Chart(rows)
            .mark_line(color=colour)
            .encode(
                x=alt.X("ms:Q", title=f"{LATENCIES[field]}, ms (log)", scale=alt.Scale(type="log")),
                y=alt.Y("% of requests:Q", title="% of requests at most"),
                tooltip=[alt.Tooltip("ms", format=",.1f"), alt.Tooltip("% of requests", format=".2f")],
            )
            .properties(height=260)
        )
        if field in slo:
            limit = pd.DataFrame({"ms": [slo[field]]})
            made += (
                alt.Chart(limit)
                .mark_rule(color=LIMIT, strokeDash=[6, 3], strokeWidth=2)
                .encode(x="ms:Q", tooltip=["ms"])
            )
        with column:
            parts.chart(
                made, rows, f"{line.workload}-{field}", f"{LATENCIES[field]} distribution with its limit dashed"
            )


def _over_time(line: Timeline, colour: str) -> None:
    st.subheader("Queue and tokens held over time", anchor=False)
    rows = pd.DataFrame(
        {"s": line.at_s, "waiting": line.waiting, "running": line.running, "tokens held": line.tokens_held}
    )
    queue = rows.melt("s", ["waiting", "running"], "requests", "count")
    x = alt.X("s:Q", title="seconds of the first draw")
    left, right = st.columns(2)
    with left:
        made = (
            alt.Chart(queue)
            .mark_line()
            .encode(
                x=x,
                y=alt.Y("count:Q", title="requests"),
                color=alt.Color(
                    "requests:N",
                    scale=alt.Scale(range=[PALETTE[0], LIMIT]),
                    legend=alt.Legend(orient="top", title=None),
                ),
            )
            .properties(height=280)
        )
        parts.chart(made, rows, f"{line.workload}-queue", "Waiting and running requests over time")
    with right:
        made = (
            alt.Chart(rows)
            .mark_area(color=colour, opacity=0.6, line={"color": colour})
            .encode(x=x, y=alt.Y("tokens held:Q"))
            .properties(height=280)
        )
        parts.chart(made, rows, f"{line.workload}-tokens", "Tokens held by running requests over time")
    st.caption("Tokens held: prompt and answer so far of the requests that have their first token, over all replicas.")
