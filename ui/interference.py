"""Interference: how much longer each kernel takes beside each neighbour on one device, as a heat map."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import altair as alt
import pandas as pd
import streamlit as st

from planner.render_plan import MARKS
from profiles.errors import PlanningError
from profiles.evidence import Evidence
from profiles.interference import Interference, kernel_and_sharing, load_interference
from ui import parts
from ui.session import session, workspace
from ui.workspace import SPEC_SUFFIXES, store_upload

COMMANDS = """\
muxplan profile interference --device cuda --sharing streams mps --shares 0.5 0.25 -o sharing.yaml
muxplan profile interference --device cpu --cores 0 1 -o sharing.yaml"""
SCALE: Final = "cividis"
"""Runs from dark to light in one order for every kind of colour vision (Nuñez et al., PLOS ONE 13(7), 2018)."""
ROW_PX = 40
AROUND_PX = 150
SMALLEST_SPAN = 0.1
"""Slow-downs that hardly differ are not drawn as if they did."""

Seats = tuple[str, float, float]
"""How the device is shared, the share of the kernel, and that of its neighbour."""


def interference() -> None:
    """Draw the tab: which file, which way of sharing, the map."""
    path = _chosen()
    if path is None:
        return
    try:
        found = load_interference(path)
    except PlanningError as error:
        st.error(parts.plain(session().said(str(error))), icon=":material/error:")
        return
    ways = seats_of(found)
    how, share = st.columns([1, 2])
    kinds = list(dict.fromkeys(way[0] for way in ways))
    kind = str(how.selectbox("Shared by", kinds, key=f"interference-how-{path.name}"))
    # By what they are called: a pair of numbers would be taken for a range.
    options = {_said(way): way for way in ways if way[0] == kind}
    chosen = next(iter(options))
    if len(options) > 1:
        key = f"interference-share-{path.name}-{kind}"
        chosen = str(share.select_slider("Share of the device", list(options), key=key))
    _map(found, options[chosen])


def _chosen() -> Path | None:
    """A file of the workspace, or the one that was uploaded last; None, with a word on how to make one, without any."""
    state, place = session(), workspace()
    with st.expander("Upload a file of measured interference"):
        file = st.file_uploader(
            "A file of muxplan profile interference",
            type=[s.removeprefix(".") for s in SPEC_SUFFIXES],
            key="interference-upload",
        )
    if file is not None:
        try:
            return store_upload(state.upload_folder(), file.name, file.getvalue(), SPEC_SUFFIXES)
        except PlanningError as error:
            st.error(parts.plain(str(error)), icon=":material/error:")
            return None
    names = place.interference_files()
    if not names:
        st.info(
            "The catalogue holds no measured interference of models that share a GPU, and this workspace no file of it;"
            " until one is measured, plans place one model on a GPU. These commands make one here:",
            icon=":material/grid_on:",
        )
        st.code(COMMANDS, language="bash")
        return None
    return place.path(str(st.selectbox("File of the workspace", names, key="interference-file")))


def seats_of(found: Interference) -> list[Seats]:
    """The ways in which kernels were measured together, in both directions of each pair, by their shares."""
    ways: set[Seats] = set()
    for own, neighbour in _directions(found):
        ways.add((kernel_and_sharing(own)[1], _share(found, own), _share(found, neighbour)))
    return sorted(ways)


def heat_rows(found: Interference, seats: Seats) -> pd.DataFrame:
    """One row a kernel and neighbour in these seats: the slow-down (at least 1), and how it is known."""
    how, own_share, neighbour_share = seats
    named = [name for name in found.loads if kernel_and_sharing(name)[1] == how]
    loads = {share: [name for name in named if _share(found, name) == share] for share in seats[1:]}
    rows = [_row(found, own, neighbour) for own in loads[own_share] for neighbour in loads[neighbour_share]]
    return pd.DataFrame(rows, columns=["kernel", "beside", "slow-down", "known", "alone ms"])


def _row(found: Interference, own: str, neighbour: str) -> dict[str, Any]:
    measured = found.measured(own, neighbour)
    modelled = found.contention.slowdown(found.loads[own].demand, [found.loads[neighbour].demand])
    return {
        "kernel": kernel_and_sharing(own)[0],
        "beside": kernel_and_sharing(neighbour)[0],
        "slow-down": round(modelled if measured is None else measured, 4),
        "known": MARKS[Evidence.FITTED if measured is None else Evidence.MEASURED],
        "alone ms": round(1e3 * found.loads[own].alone_s, 4),
    }


def _directions(found: Interference) -> Iterator[tuple[str, str]]:
    for pair in found.pairs:
        yield pair.first, pair.second
        yield pair.second, pair.first


def _share(found: Interference, load: str) -> float:
    return found.loads[load].demand.share_fraction


def _said(seats: Seats) -> str:
    return f"{seats[1]:.0%} beside {seats[2]:.0%}"


def _map(found: Interference, seats: Seats) -> None:
    rows = heat_rows(found, seats)
    highest = max(max(pair.first_slowdown, pair.second_slowdown) for pair in found.pairs)
    name = f"{found.gpu}-{seats[0]}-{100 * seats[1]:.0f}-interference"
    said = f"Slow-down of each kernel beside each other one, {_said(seats)}"
    parts.chart(heat_map(rows, max(highest, 1.0 + SMALLEST_SPAN)), rows, name, said)
    model = found.contention
    st.caption(
        f"Time beside the neighbour ÷ time alone with the same share ({_said(seats)} of the device) on"
        f" {parts.plain(found.device)}. * not measured: by the contention model, which is"
        f" {model.held_out_median_error_fraction:.1%} off on pairs left out of its fit"
        f" (median; p90 {model.held_out_p90_error_fraction:.1%})."
    )
    st.caption(parts.plain("; ".join(f"{s.source} ({s.date})" for s in found.sources)))


def heat_map(rows: pd.DataFrame, highest: float) -> alt.LayerChart:
    """The map: a line a kernel, a column a neighbour, the figure in each cell; one colour scale for the whole file."""
    order = list(dict.fromkeys(rows["kernel"]))
    shown = rows.assign(said=[f"{s:.2f}{'' if k == 'measured' else '*'}" for s, k in _cells(rows)])
    base = alt.Chart(shown).encode(
        x=alt.X("beside:N", sort=order, title="beside", axis=alt.Axis(labelAngle=-30, labelLimit=160)),
        y=alt.Y("kernel:N", sort=order, title="kernel", axis=alt.Axis(labelLimit=160)),
    )
    cells = base.mark_rect(stroke="#888", strokeWidth=0.5).encode(
        color=alt.Color(
            "slow-down:Q",
            scale=alt.Scale(scheme=SCALE, domain=[1.0, highest], clamp=True),
            legend=alt.Legend(title="slow-down ×", format=".1f"),
        ),
        tooltip=[
            "kernel",
            "beside",
            alt.Tooltip("slow-down", format=".2f", title="slow-down ×"),
            "known",
            alt.Tooltip("alone ms", format=",.3f"),
        ],
    )
    light = f"datum['slow-down'] > {0.5 * (1.0 + highest)}"
    figures = base.mark_text(fontSize=13).encode(
        text="said:N", color=alt.condition(light, alt.value("black"), alt.value("white"))
    )
    made: alt.LayerChart = (cells + figures).properties(height=AROUND_PX + ROW_PX * len(order))
    return made


def _cells(rows: pd.DataFrame) -> Iterator[tuple[float, str]]:
    return zip(rows["slow-down"], rows["known"], strict=True)
