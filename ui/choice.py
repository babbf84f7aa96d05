"""Choosing a plan on the pages that need one: the one just made, those kept, the workspace's, or an upload."""

import streamlit as st

from planner.plan_io import read_plan
from profiles.errors import PlanningError
from ui import parts
from ui.session import Saved, Session, session, workspace
from ui.workspace import SPEC_SUFFIXES, guard, store_upload

CURRENT = "the plan just made"


def plans() -> dict[str, Saved | str]:
    """Name → plan, or the workspace's file that holds it."""
    state = session()
    found: dict[str, Saved | str] = {}
    if state.plan is not None and state.plan.plan.groups:
        found[CURRENT] = state.plan
    found.update({name: saved for name, saved in state.saved.items() if saved.plan.groups})
    found.update({f"file {name}": name for name in workspace().files(plans=True)})
    return found


def opened(entry: Saved | str) -> Saved:
    """The plan of an entry. PlanFileError or WorkspaceError when its file cannot be used."""
    if isinstance(entry, Saved):
        return entry
    place = workspace()
    path = place.path(entry)
    plan = read_plan(path)
    guard(plan.spec, path.parent, place.folder)
    return Saved(plan=plan, folder=path.parent)


def upload_plan(state: Session, key: str) -> None:
    """A field to upload plan files, which are then kept under their names."""
    uploaded = st.file_uploader(
        "Upload a plan",
        type=[s.removeprefix(".") for s in SPEC_SUFFIXES],
        accept_multiple_files=True,
        key=f"{key}-upload",
    )
    for file in uploaded or ():
        name = file.name.rsplit(".", 1)[0]
        if name in state.saved:
            continue
        try:
            path = store_upload(state.upload_folder(), file.name, file.getvalue(), SPEC_SUFFIXES)
            plan = read_plan(path)
            guard(plan.spec, path.parent, path.parent)
        except PlanningError as error:
            st.error(parts.plain(str(error)), icon=":material/error:")
            continue
        state.save(name, Saved(plan=plan, folder=path.parent))
        st.rerun()


def choose_plan(key: str) -> Saved | None:
    """The plan that the person chose; None, with a word on what to do, when there is none."""
    state = session()
    with st.expander("Upload a plan file"):
        upload_plan(state, key)
    found = plans()
    if not found:
        st.info("There is no plan yet: make one on the Plan page, or upload one.", icon=":material/dns:")
        return None
    name = str(st.selectbox("Plan", list(found), key=f"{key}-choice"))
    try:
        return opened(found[name])
    except PlanningError as error:
        st.error(parts.plain(str(error)), icon=":material/error:")
        return None
