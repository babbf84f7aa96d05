"""Plans as tables: every number under a heading with its unit."""

from typing import Any

import pandas as pd
import streamlit as st

from planner.explain import explain_plan
from planner.plan_file import Percentiles, Plan, WorkloadResult
from planner.render_plan import LEGEND, MARKS
from profiles.evidence import Evidence
from ui.parts import plain

MOST_ROWS_SHOWN = 16
"""Longer tables scroll."""
SIGNS = {
    Evidence.MEASURED: "● measured",
    Evidence.INTERPOLATED: "◕ interpolated",
    Evidence.FITTED: "◑ fitted",
    Evidence.SCALED: "◔ scaled",
    Evidence.MODELLED: "○ modelled",
}


def traffic_rows(plan: Plan) -> pd.DataFrame:
    """One row a workload: rate, attainment, evidence."""
    return pd.DataFrame(
        [
            {
                "workload": name,
                "served req/s": result.served_rps,
                "holds up to req/s": result.capacity_rps,
                "attained %": None if result.attainment is None else 100 * result.attainment,
                "asked %": None if result.attainment_target is None else 100 * result.attainment_target,
                "how it is known": SIGNS[result.evidence.headline] if result.evidence.shares else "–",
            }
            for name, result in plan.workloads.items()
        ]
    )


def latency_rows(plan: Plan) -> pd.DataFrame:
    """One row a workload: latencies beside their limits."""
    return pd.DataFrame([_latencies(name, result) for name, result in plan.workloads.items()])


def _latencies(name: str, result: WorkloadResult) -> dict[str, Any]:
    return {
        "workload": name,
        "TTFT p50 ms": _p50(result.ttft_ms),
        "TTFT p99 ms": _p99(result.ttft_ms),
        "TTFT limit ms": result.slo.get("ttft_ms"),
        "TPOT p50 ms": _p50(result.tpot_ms),
        "TPOT p99 ms": _p99(result.tpot_ms),
        "TPOT limit ms": result.slo.get("tpot_ms"),
        "e2e p99 ms": _p99(result.e2e_ms),
        "e2e limit ms": result.slo.get("e2e_ms"),
    }


def _p50(values: Percentiles | None) -> float | None:
    return None if values is None else values.p50


def _p99(values: Percentiles | None) -> float | None:
    return None if values is None else values.p99


def pool_rows(plan: Plan) -> pd.DataFrame:
    """One row a pool that is paid for or used: GPUs, nodes, price, billing."""
    return pd.DataFrame(
        [
            {
                "pool": name,
                "GPUs": count.bought,
                "used": count.used,
                "nodes": count.nodes,
                "USD/GPU-h": count.price_usd_per_gpu_hour,
                "USD/h": count.bought * count.price_usd_per_gpu_hour,
                "billing": count.billing,
            }
            for name, count in plan.gpu_counts.items()
            if count.bought or count.used
        ]
    )


def reason_rows(plan: Plan) -> pd.DataFrame:
    """One row a workload: what serves it, its part of the cost, what limits it."""
    return pd.DataFrame(
        [
            {
                "workload": reason.workload,
                "served by": reason.served_by,
                "GPUs": f"{reason.gpus:g}",
                "% of cost": f"{100 * reason.share_of_cost:.1f}",
                "limited by": reason.limited_by,
            }
            for reason in explain_plan(plan)
        ]
    )


def evidence_legend(plan: Plan) -> str:
    """What the evidence marks of a plan mean."""
    shown = {result.evidence.headline for result in plan.workloads.values() if result.evidence.shares}
    return "; ".join(f"{SIGNS[e].split()[0]} {MARKS[e]}: {LEGEND[e]}" for e in Evidence if e in shown)


def show_table(rows: pd.DataFrame, key: str) -> None:
    """The table, numbers right-aligned and formatted by their column (its own menu saves it as CSV)."""
    # A column of nothing is one of numbers that are not there: aligned as such.
    rows = rows.astype({column: "float64" for column in rows if rows[column].isna().all()})
    config = {
        column: st.column_config.NumberColumn(format=_format(rows, column))
        for column in rows
        if _is_number(rows, column)
    }
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        height="content" if len(rows) <= MOST_ROWS_SHOWN else "auto",
        column_config=config,
        key=f"{key}-table",
        placeholder="–",
    )


def show_text(rows: pd.DataFrame) -> None:
    """A table of sentences, broken into lines where they are long."""
    st.table(rows.map(lambda value: plain(str(value))), hide_index=True)


def _is_number(rows: pd.DataFrame, column: str) -> bool:
    return pd.api.types.is_numeric_dtype(rows[column]) and not pd.api.types.is_bool_dtype(rows[column])


def _format(rows: pd.DataFrame, column: str) -> str:
    if pd.api.types.is_integer_dtype(rows[column]):
        return "localized"
    if "USD" in column or "%" in column:
        return "%.2f"
    if column.startswith("TPOT p"):
        return "%.1f"
    if column.endswith("req/s"):
        return "%.2f"
    return "%.0f" if column.endswith(" ms") or column in ("nodes", "used", "variant") else "%.4g"
