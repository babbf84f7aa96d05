"""`muxplan ui`: the pages in a browser, served to this machine only."""

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from profiles.errors import PlanningError

MOST_UPLOAD_MB = 4
WORKSPACE_VARIABLE = "MUXPLAN_WORKSPACE"
BAD_INPUT = 2


class UiError(PlanningError):
    """The pages cannot be started; the message says why."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; does not come back."""
    workspace = Path(arguments.workspace).resolve()
    if not workspace.is_dir():
        raise UiError(f"{arguments.workspace} is no folder: name the one that holds your specs.")
    # Only found here, never imported: the planner does not depend on its pages.
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("ui") is None:
        raise UiError("the pages are not installed here: pip install muxplan installs them.")
    sys.stdout.flush()
    # In place of this process: whoever ends it ends the server.
    os.execve(sys.executable, command(arguments), {**os.environ, WORKSPACE_VARIABLE: str(workspace)})


def command(arguments: argparse.Namespace) -> list[str]:
    """The server's command line: loopback only, small uploads, no tracebacks in the browser."""
    options = {
        "server.address": "127.0.0.1",
        "server.port": str(arguments.port),
        "server.headless": "false" if arguments.open else "true",
        "server.maxUploadSize": str(MOST_UPLOAD_MB),
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": "true",
        "server.enableStaticServing": "false",
        # A full collection after each run of a page takes longer than the run, and a page link clicked meanwhile can be
        # lost: the run that is to come next already knows its page, and takes the place of the clicked one.
        "runner.postScriptGC": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.light.primaryColor": "#0063A0",
        "theme.dark.primaryColor": "#4FA3DA",
    }
    # -P: nothing is imported from the folder that it happens to be started in.
    return [sys.executable, "-P", "-m", "ui.server", *(f"--{name}={value}" for name, value in options.items())]
