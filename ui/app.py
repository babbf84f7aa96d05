"""The pages of `muxplan ui`, as Streamlit runs them: `streamlit run ui/app.py`.

They lie in `views`: a folder `pages` beside this file would be taken for pages of its own by the first link to one.
"""

from pathlib import Path

import streamlit as st

from ui.session import keep_fields, session, write_link
from ui.sidebar import sidebar
from ui.views import compare, export, plan, profiles, simulate, what_if

PAGES = {
    "plan": (plan.page, "Plan", ":material/dns:"),
    "what-if": (what_if.page, "What if", ":material/tune:"),
    "compare": (compare.page, "Compare", ":material/compare:"),
    "simulate": (simulate.page, "Simulate", ":material/monitoring:"),
    "profiles": (profiles.page, "Profiles", ":material/speed:"),
    "export": (export.page, "Export and check", ":material/output:"),
}

ICON = Path(__file__).with_name("icon.png")
STYLE = """
[data-testid="stMainBlockContainer"] { padding: 3rem 2.5rem 3rem 2.5rem; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; font-size: 1.9rem; }
"""


def show(name: str) -> None:
    """One page with its sidebar and its link."""
    keep_fields()
    state = session()
    sidebar(state)
    PAGES[name][0]()
    if state.scenario is not None:
        write_link(state.scenario)


def main() -> None:
    """Run the page that the address names."""
    st.set_page_config(page_title="muxplan", page_icon=str(ICON), layout="wide")
    st.html(f"<style>{STYLE}</style>")
    entries = {
        name: st.Page(call, title=title, icon=icon, url_path=name, default=name == "plan")
        for name, (call, title, icon) in PAGES.items()
    }
    chosen = st.navigation(list(entries.values()))
    show(next(name for name, entry in entries.items() if entry == chosen))


if __name__ == "__main__":
    main()
