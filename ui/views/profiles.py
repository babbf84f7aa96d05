"""Profiles: what is known of GPUs and models, how well the curves fit, and one deployment taken apart."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from planner.commands.catalogue import ROWS
from planner.estimate import Estimate, Estimator
from planner.question import Question
from planner.render_plan import LEGEND, MARKS
from profiles.efficiency import DecodeFit, DeviceCurves, PrefillFit, RoofFit, curves_of
from profiles.errors import PlanningError
from profiles.evidence import Evidence
from profiles.gpus import gpu_names, load_gpu
from profiles.kernel_points import KernelPoints, kernel_points
from profiles.kernel_store import TableError, read_index, tables_folder
from profiles.models import load_model, model_names
from profiles.precision import Quantization, loads_as
from profiles.units import GIB, ms_from_s
from ui import parts, tables
from ui.colours import PALETTE, colours
from ui.interference import interference
from ui.session import kept, shared

DEFAULT_GPU = "h100-sxm-80gb"
DEFAULT_MODEL = "llama-3.1-8b"


def page() -> None:
    """Draw the page."""
    st.title("Profiles", anchor=False)
    names = gpu_names()
    name = str(st.selectbox("GPU", names, key=kept("profile-gpu", DEFAULT_GPU)))
    kernels, deployment, sharing, catalogue = st.tabs(["Kernels", "One deployment", "Interference", "Catalogue"])
    with kernels:
        _kernels(name)
    with deployment:
        _deployment(name)
    with sharing:
        interference()
    with catalogue:
        kind = str(st.radio("List", list(ROWS), horizontal=True, label_visibility="collapsed"))
        tables.show_table(pd.DataFrame(ROWS[kind]()), f"catalogue-{kind}")


def _points(gpu: str) -> pd.DataFrame:
    """The measured points of a GPU's own calibration as one table; empty for one that borrows a sister's."""
    curves = curves_of(load_gpu(gpu))
    if curves.evidence is not Evidence.SCALED:
        return pd.DataFrame()
    return pd.concat([_frame(one) for one in kernel_points(curves)], ignore_index=True)


def _frame(one: KernelPoints) -> pd.DataFrame:
    shape = [
        ", ".join(f"{name} {values[i]:g}" for name, values in one.shape.items()) for i in range(one.measured_s.size)
    ]
    return pd.DataFrame(
        {
            "kernel": f"{one.kernel} {one.operand}",
            "shape": shape,
            "measured µs": 1e6 * one.measured_s,
            "predicted µs": 1e6 * one.predicted_s,
            "error %": 100 * (one.predicted_s / one.measured_s - 1),
            "FLOP per byte": one.flops / one.bytes_moved,
            "TFLOP/s": one.flops / one.measured_s / 1e12,
        }
    )


def _kernels(name: str) -> None:
    try:
        curves = curves_of(load_gpu(name))
        points = shared().answers.answer(("points", name), lambda: _points(name))
    except PlanningError as error:
        st.info(parts.plain(str(error)), icon=":material/info:")
        return
    _tables(name)
    said = MARKS[curves.evidence]
    st.subheader("Efficiency curves", anchor=False)
    st.caption(f"What no table holds is **{said}**: {LEGEND[curves.evidence]} (calibration {curves.efficiency.name}).")
    if points.empty:
        st.info(f"No kernel was measured on {name}: its times are those of {curves.efficiency.gpu} at its own peaks.")
    else:
        _measured(points, curves)
    with st.expander("Efficiency: what the curves reach of the data sheet"):
        tables.show_table(_fits(curves), "fits")


def _tables(name: str) -> None:
    """The measured tables of a GPU: how much they hold, and how far they are off on what they have not seen."""
    folder = tables_folder(load_gpu(name))
    st.subheader("Measured tables", anchor=False)
    if folder is None:
        st.caption(f"The catalogue has no kernel tables of {name}.")
        return
    index = read_index(folder)
    rows = [
        {
            "kernel": kind,
            "curves": table.curves,
            "points": table.points,
            "between points: median error %": _percent(table.left_out, "median_error_fraction"),
            "p90 error %": _percent(table.left_out, "p90_error_fraction"),
            "unseen shapes: median error %": _percent(table.unseen_shape, "median_error_fraction"),
        }
        for kind, table in index.tables.items()
    ]
    tables.show_table(pd.DataFrame(rows), "tables")
    st.caption(parts.plain("; ".join(f"{s.source} ({s.date})" for s in index.sources)))


def _percent(error: TableError | None, field: str) -> float | None:
    return None if error is None else 100 * float(getattr(error, field))


def _measured(points: pd.DataFrame, curves: DeviceCurves) -> None:
    by_kernel = colours(points["kernel"])
    colour = alt.Color(
        "kernel:N",
        scale=alt.Scale(domain=list(by_kernel), range=list(by_kernel.values())),
        legend=alt.Legend(orient="top", title=None, columns=2),
    )
    tooltip = [
        "kernel",
        "shape",
        *(alt.Tooltip(c, format=",.1f") for c in ("measured µs", "predicted µs", "error %", "TFLOP/s")),
    ]
    left, right = st.columns(2)
    with left:
        st.subheader("Predicted against measured", anchor=False)
        log = alt.Scale(type="log")
        marks = alt.Chart(points).mark_point(filled=True, size=28, opacity=0.7)
        made = marks.encode(
            x=alt.X("measured µs:Q", title="measured, µs", scale=log),
            y=alt.Y("predicted µs:Q", title="predicted, µs", scale=log),
            color=colour,
            tooltip=tooltip,
        )
        ends = pd.DataFrame({"at": [points["measured µs"].min(), points["measured µs"].max()]})
        same = (
            alt.Chart(ends)
            .mark_line(color="#888", strokeDash=[4, 4])
            .encode(x=alt.X("at:Q", title="measured, µs"), y=alt.Y("at:Q", title="predicted, µs"))
        )
        parts.chart((same + made).properties(height=460), points, "kernels", "Predicted against measured kernel times")
    with right:
        st.subheader("Roofline", anchor=False)
        parts.chart(
            _roofline(points, curves, colour, tooltip), points, "roofline", "Measured kernels under the roofline"
        )
    summary = points.groupby("kernel", sort=False)["error %"].agg(
        points="size", median=lambda e: e.abs().median(), p90=lambda e: e.abs().quantile(0.9)
    )
    summary = summary.rename(columns={"median": "median error %", "p90": "p90 error %"}).reset_index()
    tables.show_table(summary, "kernel-errors")


def _roofline(
    points: pd.DataFrame, curves: DeviceCurves, colour: Any, tooltip: list[Any]
) -> alt.LayerChart | alt.FacetChart:
    gpu = curves.gpu
    intensity = np.logspace(np.log10(points["FLOP per byte"].min()), np.log10(points["FLOP per byte"].max()), 60)
    peaks = [(kind, peak) for kind, peak in gpu.peak_flops.items() if peak]
    roofs = pd.DataFrame(
        [
            {"FLOP per byte": i, "TFLOP/s": min(i * gpu.memory_bandwidth_bytes_per_s, peak) / 1e12, "peak": kind}
            for kind, peak in peaks
            for i in intensity
        ]
    )
    log = alt.Scale(type="log")
    x, y = alt.X("FLOP per byte:Q", scale=log), alt.Y("TFLOP/s:Q", scale=log)
    lines = alt.Chart(roofs).mark_line(color="#888").encode(x=x, y=y, detail="peak:N", tooltip=["peak"])
    marks = (
        alt.Chart(points).mark_point(filled=True, size=28, opacity=0.7).encode(x=x, y=y, color=colour, tooltip=tooltip)
    )
    made: alt.LayerChart | alt.FacetChart = (lines + marks).properties(height=460)
    return made


def _fits(curves: DeviceCurves) -> pd.DataFrame:
    found = curves.efficiency
    rows: list[tuple[str, str, float | None, float | None, RoofFit | DecodeFit | PrefillFit]] = [
        ("gemm", k, v.bandwidth_fraction, v.compute_fraction, v) for k, v in found.gemm.items()
    ]
    rows += [("moe", k, v.bandwidth_fraction, v.compute_fraction, v) for k, v in found.moe.items()]
    rows += [("decode attention", k, v.bandwidth_fraction, None, v) for k, v in found.decode_attention.items()]
    prefill = found.prefill_attention
    rows.append(("prefill attention", "bf16", None, prefill.compute_fraction, prefill))
    return pd.DataFrame(
        [
            {
                "kernel": kernel,
                "type": kind,
                "% of bandwidth": None if bandwidth is None else 100 * bandwidth,
                "% of compute": None if compute is None else 100 * compute,
                "floor µs": 1e6 * fit.launch_s,
                "points": fit.points,
                "median error %": 100 * fit.median_error_fraction,
            }
            for kernel, kind, bandwidth, compute, fit in rows
        ]
    )


def _deployment(gpu: str) -> None:
    names = model_names()
    one, two, three, four = st.columns(4)
    model = str(one.selectbox("Model", names, key=kept("estimate-model", DEFAULT_MODEL)))
    kinds = [str(q) for q in _quantizations(model)]
    quantization = str(two.selectbox("Weights", kinds, key="estimate-quantization"))
    tp = int(three.selectbox("Tensor parallel", [1, 2, 4, 8], key=kept("estimate-tp", 1)))
    concurrency = four.number_input("Clients at once", 1, 1024, key=kept("estimate-concurrency", 16))
    inputs = one.number_input("Input tokens", 1, 100_000, key=kept("estimate-input", 1000))
    outputs = two.number_input("Output tokens", 1, 20_000, key=kept("estimate-output", 200))
    question = Question(
        model=model,
        gpu=gpu,
        tp=tp,
        quantization=quantization,
        input_tokens=int(inputs),
        output_tokens=int(outputs),
        concurrency=int(concurrency),
    )
    if st.button("Estimate", icon=":material/calculate:", key="estimate-go"):
        st.session_state["estimate"] = question
    if st.session_state.get("estimate") == question:
        try:
            _estimated(shared().answers.answer(question, lambda: Estimator().answer(question)))
        except PlanningError as error:
            st.error(parts.plain(str(error)), icon=":material/error:")


def _quantizations(model: str) -> list[Quantization]:
    stored = load_model(model).dtype
    return [stored, *(q for q in Quantization if q is not stored and loads_as(stored, q))]


def _estimated(found: Estimate) -> None:
    if found.status != "ok":
        st.warning(f"It cannot run: {parts.plain(found.reason)}", icon=":material/block:")
        return
    cells = st.columns(5)
    for cell, (label, values) in zip(cells, (("TTFT", found.ttft_ms), ("TPOT", found.tpot_ms)), strict=False):
        cell.metric(f"{label} mean, ms", "–" if values is None else f"{values.mean:,.1f}", border=True)
    cells[2].metric("Output, tokens/s", f"{found.throughput_tokens_per_s or 0:,.0f}", border=True)
    cells[3].metric("KV cache, tokens", f"{found.kv_tokens or 0:,}", border=True)
    memory = found.memory
    cells[4].metric("Weights, GiB", "–" if memory is None else f"{memory.weight_bytes / GIB:,.1f}", border=True)
    rows = pd.DataFrame(
        [
            {"kernel": kernel, "ms": ms_from_s(seconds), "evidence": MARKS[evidence]}
            for kernel, seconds, evidence in found.breakdown
        ]
    )
    made = (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("ms:Q", title="ms of a step"),
            y=alt.Y("kernel:N", sort="-x", title=None, axis=alt.Axis(labelLimit=240)),
            color=alt.Color(
                "evidence:N", scale=alt.Scale(range=list(PALETTE)), legend=alt.Legend(orient="top", title=None)
            ),
            tooltip=["kernel", alt.Tooltip("ms", format=",.3f"), "evidence"],
        )
        .properties(height=110 + 24 * len(rows))
    )
    parts.chart(made, rows, "breakdown", "Where a step's time goes, by kernel")
