"""What one browser session holds, and what all sessions of the server share."""

import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st

from planner.memo import Memo
from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.plan_memory import PlanMemory
from planner.progress import Progress
from planner.sweep import Row, Variant, plan_variant
from profiles.errors import PlanningError
from ui.jobs import Job
from ui.scenario import Scenario, as_link, digest, from_link, read_scenario
from ui.workspace import Workspace

KEY = "muxplan"
KEPT = "kept-"
WORKSPACE_VARIABLE = "MUXPLAN_WORKSPACE"
MOST_PLANS_KEPT = 64
MOST_SAVED = 20
REPRODUCIBLE = ("optimal", "feasible", "infeasible")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A plan kept under a name, with the folder that files in its spec are relative to."""

    plan: Plan
    folder: Path


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class Session:
    """One browser session. Jobs go by the page that began them; `fields` are those of all pages, by their keys."""

    scenario: Scenario | None = None
    plan: Saved | None = None
    saved: dict[str, Saved] = field(default_factory=dict)
    plan_jobs: dict[str, Job[Plan]] = field(default_factory=dict)
    sweep_jobs: dict[str, Job[list[Row]]] = field(default_factory=dict)
    replay_job: Job[Any] | None = None
    check_job: Job[Any] | None = None
    message: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    taken_uploads: tuple[str, ...] = ()
    uploads: Path | None = None

    def upload_folder(self) -> Path:
        """The session's own folder for uploads; it goes when the session does."""
        if self.uploads is None:
            self.uploads = Path(tempfile.mkdtemp(prefix="muxplan-")).resolve()
            weakref.finalize(self, shutil.rmtree, self.uploads, ignore_errors=True)
        return self.uploads

    def said(self, error: str) -> str:
        """The sentence with uploaded files under their bare names: nobody knows the folder that they went to."""
        return error if self.uploads is None else error.replace(f"{self.uploads}{os.sep}", "")

    def save(self, name: str, plan: Saved) -> None:
        """Keep a plan under a name, at most twenty: the oldest one goes."""
        self.saved[name[:60]] = plan
        while len(self.saved) > MOST_SAVED:
            del self.saved[next(iter(self.saved))]

    def choose(self, scenario: Scenario) -> None:
        """Work on another scenario: what was planned for the one before is let go."""
        if scenario != self.scenario:
            abandon(self.plan_jobs, self.sweep_jobs)
            self.scenario, self.plan = scenario, None


def abandon(*jobs: Mapping[str, Job[Any]]) -> None:
    """Drop all these jobs."""
    for job in (one for some in jobs for one in some.values()):
        job.abandon()


def workspace() -> Workspace:
    """The folder that the server was started on."""
    return Workspace(Path(os.environ.get(WORKSPACE_VARIABLE, ".")).resolve())


def session() -> Session:
    """This browser session's state, made from the link when it is new."""
    if KEY not in st.session_state:
        st.session_state[KEY] = _new()
    found = st.session_state[KEY]
    if not isinstance(found, Session):
        raise TypeError("the session's state is not ours")
    return found


def _new() -> Session:
    made = Session()
    # A tab that was closed waits for nothing.
    weakref.finalize(made, abandon, made.plan_jobs, made.sweep_jobs)
    place = workspace()
    try:
        made.scenario = from_link(st.query_params.to_dict(), place)
    except PlanningError as error:
        made.message = str(error)
    if made.scenario is None:
        specs = place.files(plans=False)
        made.scenario = read_scenario(specs[0], place) if specs else None
    return made


def kept(name: str, default: Any) -> str:
    """The key of a field that stays as it was set while other pages are shown, and begins at the default."""
    key = f"{KEPT}{name}"
    # Only where the field is new or was forgotten: setting one that is shown would undo what is being dragged or typed.
    if key not in st.session_state:
        st.session_state[key] = session().fields.get(key, default)
    return key


def keep_fields() -> None:
    """Remember the fields as they stand: Streamlit forgets those that a page does not show."""
    session().fields.update({str(key): st.session_state[key] for key in st.session_state if str(key).startswith(KEPT)})


def write_link(scenario: Scenario) -> None:
    """Put the scenario into the page's address."""
    link = as_link(scenario, workspace())
    if st.query_params.to_dict() != link:
        st.query_params.from_dict(link)


@dataclass(slots=True)
class Shared:
    """Of all sessions: turns for long work, and plans by what they were made from (equal specs have equal plans).

    Studies and checks take turns of their own: a plan that somebody waits for does not queue behind them.
    """

    turns: threading.BoundedSemaphore
    study_turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))
    check_turns: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(1))
    plans: "OrderedDict[tuple[str, int], Plan]" = field(default_factory=OrderedDict)
    memory: PlanMemory = field(default_factory=PlanMemory)
    answers: Memo[Any] = field(default_factory=Memo)
    """Of the Profiles page."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[str, int]) -> Plan | None:
        """A plan that is already there."""
        with self.lock:
            return self.plans.get(key)

    def put(self, key: tuple[str, int], plan: Plan) -> None:
        """Keep a plan, unless a limit or a person cut it short."""
        if plan.termination in REPRODUCIBLE:
            with self.lock:
                self.plans[key] = plan
                while len(self.plans) > MOST_PLANS_KEPT:
                    self.plans.popitem(last=False)


@st.cache_resource
def shared() -> Shared:
    """What all sessions of this server share."""
    return Shared(threading.BoundedSemaphore(max(1, (os.cpu_count() or 1))))


def known_plan(scenario: Scenario, seed: int = 0) -> Plan | None:
    """The plan of a scenario when it was made before. Errors as of `Scenario.loaded`."""
    return shared().get((digest(scenario.loaded()), seed))


def start_plan(page: str, scenario: Scenario, options: PlanOptions) -> Job[Plan]:
    """Plan a scenario in the background; a job of the same page that is still running is stopped."""
    state, common = session(), shared()
    if page in state.plan_jobs:
        state.plan_jobs[page].abandon()
    loaded = scenario.loaded()
    key = (digest(loaded), options.seed)

    def work(progress: Progress, cancelled: Callable[[], bool]) -> Plan:
        known = common.get(key)
        if known is not None:
            return known
        plan = plan_spec(loaded, replace(options, cancelled=cancelled, memory=common.memory), progress)
        common.put(key, plan)
        return plan

    job: Job[Plan] = Job(what="planning", of=key[0])
    job.start(work, common.turns)
    state.plan_jobs[page] = job
    return job


def start_sweep(page: str, scenario: Scenario, variants: Sequence[Variant]) -> None:
    """Plan variants of a scenario one after another in the background; stopped, it gives those that are done."""
    state, common = session(), shared()
    if page in state.sweep_jobs:
        state.sweep_jobs[page].abandon()
    loaded = scenario.loaded()

    def work(progress: Progress, cancelled: Callable[[], bool]) -> list[Row]:
        rows: list[Row] = []
        options = PlanOptions(try_relaxations=False, cancelled=cancelled, memory=common.memory)
        for variant in variants:
            progress.say(f"{len(rows)} of {len(variants)} variants planned")
            progress.done_fraction = len(rows) / len(variants)
            row = plan_variant(loaded, variant, options, Progress(abandoned=progress.abandoned))
            if cancelled():
                break
            rows.append(row)
        return rows

    job: Job[list[Row]] = Job(what="planning variants", of=digest(loaded))
    job.start(work, common.study_turns)
    state.sweep_jobs[page] = job
