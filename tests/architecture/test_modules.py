"""Every module imports alone, and the command's start pulls in nothing heavy."""

import pkgutil
import subprocess
import sys

import pytest

import planner
import profiles
import solvers

HEAVY = ("numba", "pulp", "highspy", "ortools", "ray", "streamlit", "scipy", "pandas", "numpy", "pydantic")


def module_names() -> list[str]:
    """Names of all modules of the three packages."""
    return [
        module.name
        for package in (planner, profiles, solvers)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    ]


def test_every_module_imports_alone() -> None:
    # One interpreter a module would take minutes; a fresh module table in one interpreter asks the same question.
    program = """
import importlib, sys
kept = set(sys.modules)
ours = ("planner", "profiles", "solvers")
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] in ours]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program, *module_names()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [["--help"], ["--version"]])
def test_start_of_the_command_is_light(command: list[str]) -> None:
    program = f"""
import sys
from planner import cli
try:
    cli.main({command!r})
except SystemExit:
    pass
print(sorted(set(m.split(".")[0] for m in sys.modules) & set({HEAVY!r})), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"
