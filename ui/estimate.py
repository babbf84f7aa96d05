"""The answer before the answer: what a plan will cost by the newest mix, until simulation has judged it."""

import pandas as pd
import streamlit as st

from planner.explain import FULL_FRACTION
from planner.plan_file import Plan
from planner.progress import MixSoFar
from ui import parts, tables
from ui.jobs import Job


def watch_plan(job: Job[Plan], key: str, compared_usd_per_hour: float | None = None) -> None:
    """Progress of a plan that is being made, under the newest estimate of it; against a cost where one is given."""

    def above() -> None:
        if job.progress.mix is not None:
            estimate(job.progress.mix, compared_usd_per_hour)

    parts.watch(job, key, above)


def estimate(mix: MixSoFar, compared_usd_per_hour: float | None) -> None:
    """The mix as cost, GPUs, and what limits each workload, all said to be estimates."""
    change = None if compared_usd_per_hour is None else round(mix.usd_per_hour - compared_usd_per_hour, 2)
    bought = {pool: count for pool, count in mix.gpus.items() if count}
    cells = st.columns(5)
    cells[0].metric(
        "Estimate, USD/h",
        f"{mix.usd_per_hour:,.2f}",
        f"{change:+,.2f}" if change else None,
        delta_color="inverse",
        border=True,
        help="The cheapest mix by the capacities known so far. It is being simulated now: the plan may need more.",
        height="stretch",
    )
    cells[1].metric("GPUs, estimate", f"{sum(bought.values()):,}", border=True, height="stretch")
    for cell, (pool, count) in zip(cells[2:], bought.items(), strict=False):
        cell.metric(f"of pool {pool}", f"{count:,}", border=True, height="stretch")
    tables.show_text(estimate_rows(mix))


def estimate_rows(mix: MixSoFar) -> pd.DataFrame:
    """One row a workload: what serves it and what limits it, by the capacities known so far."""
    return pd.DataFrame(
        [
            {
                "workload": one.workload,
                "served by": one.served_by,
                "limited by (estimate, being simulated)": _limit(one.load_fraction),
            }
            for one in mix.served
        ]
    )


def _limit(load_fraction: float) -> str:
    carried = f"{load_fraction:.0%} of what they can carry within the limits"
    if load_fraction >= FULL_FRACTION:
        return f"its throughput: {carried}"
    return f"not near a limit: {carried}"
