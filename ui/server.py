"""The server of `muxplan ui`: everything that the first page needs is there before the first person comes."""

import sys
from pathlib import Path

from streamlit.web import cli

from ui import app


def main() -> None:
    """Serve the pages with Streamlit's options of the command line; does not come back."""
    # Importing the pages has loaded solvers and simulator: nobody waits for that.
    sys.argv = ["streamlit", "run", str(Path(app.__file__)), *sys.argv[1:]]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
