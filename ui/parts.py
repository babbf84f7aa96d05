"""Pieces that several pages show: the headline of a plan, why there is none, progress, downloads."""

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from planner.plan_file import Plan, Relaxation
from planner.plan_io import plan_to_yaml
from planner.render_plan import SAID
from ui.jobs import Job

POLL_S = 0.8


def headline(plan: Plan) -> None:
    """Cost, GPUs, bound, gap and whether the SLOs hold, as the CLI says them."""
    bought = sum(c.bought for c in plan.gpu_counts.values())
    used = sum(c.used for c in plan.gpu_counts.values())
    cells = st.columns(5)
    cells[0].metric("Cost, USD/h", f"{plan.cost_usd_per_hour or 0.0:,.2f}", border=True)
    cells[1].metric("GPUs", f"{bought:,}", border=True, help=f"{used} of them run something")
    cells[2].metric(
        "Bound, USD/h",
        "–" if plan.bound_fluid is None else f"{plan.bound_fluid:,.2f}",
        border=True,
        help=f"No plan costs less, whatever the dispatching, over: {plan.bound_scope}",
    )
    cells[3].metric(
        "Gap",
        "–" if plan.gap_fluid_fraction is None else f"{plan.gap_fluid_fraction:.1%}",
        border=True,
        help="How far the plan is above the bound, which knows no bursts. Under the capacities in force the plan is"
        f" within {plan.gap_model_fraction or 0.0:.1%} of the best.",
    )
    held = plan.verified is not None and plan.verified.held
    cells[4].metric(
        "SLOs",
        "held" if held else "missed",
        border=True,
        help=f"Simulated on {plan.verified.draws} draws of the traffic; {plan.verified.rule}"
        if plan.verified
        else None,
    )
    if plan.sunk_usd_per_hour:
        st.caption(f"Beside {plan.sunk_usd_per_hour:,.2f} USD/h for reserved GPUs, paid either way.")
    if SAID[plan.termination]:
        st.warning(SAID[plan.termination], icon=":material/timer:")


def no_plan(plan: Plan, take: Callable[[Relaxation], None] | None, key: str) -> None:
    """Why there is no plan, and what would help as buttons; `take` is called with the one that was pressed."""
    ended = {
        "time_limit": "No plan was found before the time limit",
        "cancelled": "Stopped before a plan was found",
    }.get(plan.termination, "There is no plan")
    st.error(
        f"**{ended}.** These cannot hold together:" if plan.conflicts else f"**{ended}.**", icon=":material/block:"
    )
    for conflict in plan.conflicts:
        st.markdown(f"- {plain(conflict)}")
    if plan.relaxations:
        st.markdown("**What would help**: press one to change the scenario by it.")
    # Those that are known to give a plan first.
    for number, one in enumerate(sorted(plan.relaxations, key=lambda r: not r.sufficient)):
        known = "tried: gives a plan" if one.sufficient else "at least that much; not tried"
        st.button(
            f"{plain(one.what)} ({known})",
            key=f"{key}-relax-{number}",
            icon=":material/lock_open:",
            disabled=take is None or one.needed is None,
            on_click=take,
            args=(one,),
        )
    if plan.unmet:
        short = ", ".join(f"{name} {rate:g} req/s" for name, rate in plan.unmet.items())
        st.caption(f"Unmet when more important workloads are served first: {short}.")


def plain(text: str) -> str:
    """Text of a file as Markdown that shows it as it is."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+!|$~:" else c for c in text)


def watch(job: Job[Any], key: str, above: Callable[[], None] | None = None, lines: int = 0) -> None:
    """Progress of a running job with a button that stops it, what `above` draws over it, and its last lines under it.

    The whole page runs again when the job ends.
    """

    def show() -> None:
        if not job.running:
            st.rerun()
        if above is not None:
            above()
        left, right = st.columns([6, 1], vertical_alignment="center")
        last = job.lines[-1] if job.lines else "waiting for its turn" if job.elapsed_s > 1 else "starting"
        left.progress(_fraction(job), text=f"{plain(last)} · {job.elapsed_s:.0f} s")
        right.button(
            "Stopping…" if job.stopping else "Stop",
            key=f"{key}-stop",
            icon=":material/stop_circle:",
            on_click=job.stop,
            disabled=job.stopping,
            width="stretch",
        )
        if lines:
            st.code("\n".join(job.lines[-lines:]), language=None)

    st.fragment(show, run_every=POLL_S)()


def _fraction(job: Job[Any]) -> float:
    """How far it is where that is known; of a single plan only that it moves."""
    if job.progress.done_fraction is not None:
        return job.progress.done_fraction
    return min(0.95, job.elapsed_s / (job.elapsed_s + 8.0))


def chart(made: alt.Chart | alt.LayerChart | alt.FacetChart, rows: pd.DataFrame, name: str, alt_text: str) -> None:
    """A chart (its menu saves PNG and SVG) and its data as CSV."""
    st.altair_chart(made, width="stretch", key=f"{name}-chart", alt=alt_text)
    st.download_button(
        "Data as CSV",
        lambda: rows.to_csv(index=False),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{name}-csv",
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
    )


def plan_downloads(plan: Plan, key: str) -> None:
    """The plan as the CLI writes it."""
    st.download_button(
        "Plan as YAML",
        lambda: plan_to_yaml(plan),
        file_name=f"{plan.name}.plan.yaml",
        mime="application/yaml",
        key=f"{key}-plan-yaml",
        icon=":material/download:",
        on_click="ignore",
    )
