"""The sidebar of every page: which spec is being worked on, and uploads."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from profiles.errors import PlanningError
from ui import parts
from ui.scenario import Scenario, as_link, read_scenario
from ui.session import Session, workspace
from ui.workspace import SPEC_SUFFIXES, TABLE_SUFFIXES, store_upload

TYPED = "(typed or uploaded)"


def sidebar(state: Session) -> None:
    """Draw it; a choice or an upload becomes the session's scenario."""
    with st.sidebar:
        _choose(state)
        uploaded = st.file_uploader(
            "Upload a spec (and the tables that it names)",
            type=[s.removeprefix(".") for s in (*SPEC_SUFFIXES, *TABLE_SUFFIXES)],
            accept_multiple_files=True,
            key="upload",
        )
        if uploaded:
            _take(state, uploaded)
        if state.scenario is not None and not as_link(state.scenario, workspace()):
            st.caption("Too large for a link, or uploaded: the page's address does not carry this scenario.")
    if state.message is not None:
        st.error(parts.plain(state.message), icon=":material/error:")
        state.message = None


def _choose(state: Session) -> None:
    files = workspace().files(plans=False)
    here = state.scenario.file if state.scenario is not None else None
    options = [*files, *([] if here in files or state.scenario is None else [TYPED])]
    if not options:
        st.caption("No spec in this workspace.")
        return
    chosen = st.selectbox(
        "Spec of the workspace",
        options,
        index=options.index(here) if here in files and here else len(options) - 1,
        key=f"spec-{here}",
    )
    if chosen not in (here, TYPED):
        try:
            state.choose(read_scenario(str(chosen), workspace()))
        except PlanningError as error:
            state.message = str(error)
        st.rerun()


def _take(state: Session, uploaded: Sequence[Any]) -> None:
    """The first spec among the files becomes the scenario; tables lie beside it. Taken once."""
    mark = tuple(file.file_id for file in uploaded)
    if state.taken_uploads == mark:
        return
    state.taken_uploads = mark
    folder = state.upload_folder()
    try:
        paths = [store_upload(folder, f.name, f.getvalue(), (*SPEC_SUFFIXES, *TABLE_SUFFIXES)) for f in uploaded]
        specs = [path for path in paths if path.suffix in SPEC_SUFFIXES]
        if specs:
            text = specs[0].read_text(encoding="utf-8")
            state.choose(Scenario(text=text, folder=folder, root=folder))
    except PlanningError as error:
        state.message = str(error)
    except UnicodeDecodeError:
        state.message = "The uploaded spec is not text (UTF-8)."
    st.rerun()
