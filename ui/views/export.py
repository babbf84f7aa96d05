"""Export and check: the files of a deployment, and a plan against a real engine, predicted beside measured."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from planner.check.check_simulator import check_on_simulator
from planner.check.check_vllm import CheckOptions, check_on_vllm
from planner.check.result import CheckResult, Figures
from planner.export.targets import TARGETS, exported_files
from planner.plan_file import Percentiles
from planner.progress import Progress
from planner.replay import Traffic
from planner.runtime.environment import find_environment
from profiles.errors import PlanningError
from ui import parts, tables
from ui.choice import choose_plan
from ui.jobs import Job
from ui.session import Saved, Session, kept, session, shared

PAGE = "export"
LEVELS = {"simulator": "the simulator", "vllm": "this machine's vLLM"}
WHAT = {
    "simulator": "Holds the plan's figures against draws of its traffic that it was not made with. It needs no engine.",
    "vllm": "Starts the plan's own launch commands on this machine's vLLM, sends the plan's traffic, and compares. The"
    " server looks for the engine where `make engine` puts it, or where `MUXPLAN_ENGINE_PYTHON` says. Elsewhere,"
    " run `muxplan check plan.yaml -o check.json` there and upload the result.",
}
LINES_SHOWN = 12
Check = Callable[[Progress, Callable[[], bool]], CheckResult]
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
        lambda: zipped(made),
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
    job = state.check_job
    level = str(
        st.radio(
            "Check on", list(LEVELS), format_func=LEVELS.__getitem__, horizontal=True, key=kept("check-on", "simulator")
        )
    )
    st.caption(WHAT[level])
    one, two, three, go = st.columns(4, vertical_alignment="bottom")
    tolerance = one.number_input("Tolerance of TPOT, %", 1, 100, key=kept("check-tolerance", 20)) / 100
    seed = int(two.number_input("Seed of the traffic", 0, 2**32 - 1, key=kept("check-seed", 2)))
    work: Check
    if level == "simulator":
        draws = int(three.number_input("Independent draws", 1, 50, key=kept("check-draws", 8)))
        traffic = Traffic(draws=draws, seed=seed, duration_s=None, trace=None, workload=None)
        work = partial(_on_simulator, chosen, traffic, tolerance)
    else:
        seconds = float(three.number_input("Seconds of traffic", 5, 3600, key=kept("check-duration", 60)))
        logs = state.upload_folder() / "engine-logs"
        work = partial(
            _on_vllm, chosen, CheckOptions(tolerance_fraction=tolerance, duration_s=seconds, seed=seed), logs
        )
    go.button(
        "Check",
        icon=":material/science:",
        disabled=job is not None and job.running,
        width="stretch",
        key="check-go",
        on_click=_start,
        args=(state, chosen, work),
    )
    if job is not None and job.running:
        parts.watch(job, "check", lines=LINES_SHOWN)
        return
    result = _uploaded() or _ended(job, chosen)
    if result is not None:
        _show(result)


def _start(state: Session, chosen: Saved, work: Check) -> None:
    state.check_job = Job(what="checking", of=chosen.plan.spec_digest)
    state.check_job.start(work, shared().check_turns)


def _on_simulator(
    chosen: Saved, traffic: Traffic, tolerance_fraction: float, progress: Progress, cancelled: Callable[[], bool]
) -> CheckResult:
    # Half a simulation is none: who stops it drops it.
    progress.abandoned = cancelled
    return check_on_simulator(chosen.plan, chosen.folder, traffic, tolerance_fraction, progress)


def _on_vllm(
    chosen: Saved, options: CheckOptions, logs: Path, progress: Progress, cancelled: Callable[[], bool]
) -> CheckResult:
    place = (find_environment(None), logs)
    return check_on_vllm(chosen.plan, chosen.folder, replace(options, cancelled=cancelled), place, progress)


def _ended(job: Job[CheckResult] | None, chosen: Saved) -> CheckResult | None:
    """The result of the check that was run last, if it was of this plan; else a word on why there is none."""
    if job is None:
        return None
    if job.error is not None:
        st.warning(parts.plain(job.error), icon=":material/block:")
    elif job.of != chosen.plan.spec_digest:
        st.caption("Another plan was checked last: press Check for this one.")
    elif job.result is None:
        st.caption("Stopped before the end.")
    return job.result if job.of == chosen.plan.spec_digest else None


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
        rows += [_row(name, "predicted", one.predicted), _row(name, result.seen, one.measured)]
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
