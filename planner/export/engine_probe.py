"""Runs under an engine's own Python, by path, and imports nothing of ours: vLLM's checks over many settings at once.

    python engine_probe.py IN.json OUT.json

IN holds a list of {"config": file} for `vllm serve --config`, {"words": […]} for an engine's command line, and
{"keywords": {…}} for AsyncEngineArgs; OUT gets a list of what vLLM says against each, null where it takes it.
Checked: arguments, and the configuration they add up to. Neither weights nor a device are touched.
"""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def main(source: str, target: str) -> None:
    """Read the settings, write the faults."""
    read = _reader()
    asked = json.loads(Path(source).read_text(encoding="utf-8"))
    Path(target).write_text(json.dumps([_fault(read, one) for one in asked]), encoding="utf-8")


def _reader() -> Callable[[Mapping[str, Any]], Any]:
    """From settings to vLLM's engine arguments; whatever vLLM raises comes through."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    server = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    engine = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(prog="engine"))

    def read(one: Mapping[str, Any]) -> Any:
        if "keywords" in one:
            return AsyncEngineArgs(**one["keywords"])
        if "words" in one:
            return AsyncEngineArgs.from_cli_args(engine.parse_args(one["words"]))
        parsed = server.parse_args(["--config", one["config"]])
        validate_parsed_serve_args(parsed)
        return AsyncEngineArgs.from_cli_args(parsed)

    return read


def _fault(read: Callable[[Mapping[str, Any]], Any], one: Mapping[str, Any]) -> str | None:
    """What vLLM says against the settings; its parser says it on stderr and exits."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            read(one).create_engine_config()
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    except Exception as error:
        # Whatever vLLM raises is its answer to these settings, and the next ones are still to be asked about.
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
