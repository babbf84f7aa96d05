"""Export and check: the files of a deployment, and a plan against a real engine, predicted beside measured."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from planner.check.check_vllm import CheckOptions, check_on_vllm
from planner.check.result import CheckResult, Figures
from planner.export.targets import TARGETS, exported_files
from planner.plan_file import Percentiles
from planner.progress import Progress
from planner.runtime.environment import find_environment
from profiles.errors import PlanningError
from ui import parts, tables
from ui.choice import choose_plan
from ui.jobs import Job
from ui.session import Saved, Session, kept, session, shared

PAGE = "export"
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".sh": "bash", ".py": "python"}
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def page() -> None:
    """Draw the page."""
    state = session()
    st.title("Export and check", anchor=False)
    chosen = choose_plan(PAGE)
    if chosen is None:
        return
    files, check = st.tabs(["Export", "Check"])
    with files:
        _export(chosen)
    with check:
        _check(state, chosen)


def _export(chosen: Saved) -> None:
    target = str(st.radio("For", list(TARGETS), horizontal=True, key=kept("export-target", next(iter(TARGETS)))))
    try:
        made, left_out = exported_files(chosen.plan, target, chosen.folder)
    except PlanningError as error:
        st.error(parts.plain(str(error)), icon=":material/error:")
        return
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    left.download_button(
        f"{len(made)} files as ZIP",
        zipped(made),
        file_name=f"{chosen.plan.name}-{target}.zip",
        mime="application/zip",
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        key="export-zip",
        width="stretch",
    )
    for name in left_out:
        st.caption(f"Not exported: {parts.plain(name)} is known only by measurement.")
    shown = str(right.selectbox("Look into", sorted(made), key=f"export-file-{target}"))
    st.code(made[shown], language=LANGUAGES.get(Path(shown).suffix), height=460)


def zipped(files: dict[str, str]) -> bytes:
    """The files as a ZIP archive; equal files give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), files[name])
    return out.getvalue()


def _check(state: Session, chosen: Saved) -> None:
    st.caption(
        "Starts the plan's own launch commands on this machine's vLLM, sends the plan's traffic, and compares. On"
        " another machine, run `muxplan check plan.yaml -o check.json` there and upload the result."
    )
    running = state.check_job is not None and state.check_job.running
    one, two, three = st.columns(3, vertical_alignment="bottom")
    seconds = one.number_input("Seconds of traffic", 5, 3600, key=kept("check-duration", 60))
    tolerance = two.number_input("Tolerance of TPOT, %", 1, 100, key=kept("check-tolerance", 20))
    if three.button("Check on this machine's vLLM", icon=":material/science:", disabled=running, width="stretch"):
        options = CheckOptions(tolerance_fraction=tolerance / 100, duration_s=float(seconds))
        _start(state, chosen, options)
        st.rerun()
    job = state.check_job
    if job is not None and job.running:
        parts.watch(job, "check")
        st.code("\n".join(job.lines[-12:]) or "starting", language=None)
        return
    if job is not None and job.error is not None:
        st.warning(parts.plain(job.error), icon=":material/block:")
    result = _uploaded() or (job.result if job is not None else None)
    if result is not None:
        _show(result)


def _start(state: Session, chosen: Saved, options: CheckOptions) -> None:
    logs = state.upload_folder() / "engine-logs"

    def work(progress: Progress, cancelled: Callable[[], bool]) -> CheckResult:
        place = (find_environment(None), logs)
        return check_on_vllm(chosen.plan, chosen.folder, replace(options, cancelled=cancelled), place, progress)

    state.check_job = Job(what="checking")
    state.check_job.start(work, shared().check_turns)


def _uploaded() -> CheckResult | None:
    file = st.file_uploader("Or upload the result of a check (check.json)", type=["json"], key="check-upload")
    if file is None:
        return None
    try:
        return CheckResult.model_validate_json(file.getvalue())
    except ValueError as error:
        st.error(f"This is no result of a check: {parts.plain(str(error).splitlines()[0])}.", icon=":material/error:")
        return None


def _show(result: CheckResult) -> None:
    said = f"{result.plan} on {result.engine}, {result.windows} × {result.duration_s:.0f} s"
    if result.held:
        st.success(f"**Held** within {result.tolerance_fraction:.0%}: {parts.plain(said)}", icon=":material/check:")
    else:
        st.error(f"**Did not hold** ({result.tolerance_fraction:.0%}): {parts.plain(said)}", icon=":material/close:")
    rows = []
    for name, one in result.workloads.items():
        rows += [_row(name, "predicted", one.predicted), _row(name, "measured", one.measured)]
    tables.show_table(pd.DataFrame(rows), "check")
    for name, one in result.workloads.items():
        for why in one.why:
            st.markdown(f"- {parts.plain(name)}: {parts.plain(why)}")
    for note in (*result.notes, *([result.ended] if result.ended else [])):
        st.caption(parts.plain(note))


def _row(name: str, what: str, one: Figures) -> dict[str, Any]:
    def at(values: Percentiles | None, p: str) -> float | None:
        return None if values is None else float(getattr(values, p))

    return {
        "workload": name,
        "": what,
        "TTFT p50 ms": at(one.ttft_ms, "p50"),
        "TTFT p99 ms": at(one.ttft_ms, "p99"),
        "TPOT p50 ms": at(one.tpot_ms, "p50"),
        "TPOT p99 ms": at(one.tpot_ms, "p99"),
        "attained %": None if one.attainment is None else 100 * one.attainment,
        "served req/s": one.served_rps,
    }
