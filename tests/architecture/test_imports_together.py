"""PuLP, HiGHS and OR-tools share one process, whichever comes first: their native libraries have clashed before."""

import subprocess
import sys
from itertools import permutations

import pytest

IMPORTS = ("import pulp", "import highspy", "from ortools.sat.python import cp_model")
SOLVE_BOTH = """
model = cp_model.CpModel()
x = model.new_int_var(0, 9, "x")
model.maximize(x)
solver = cp_model.CpSolver()
assert solver.solve(model) == cp_model.OPTIMAL and solver.value(x) == 9
problem = pulp.LpProblem("p", pulp.LpMaximize)
y = problem.add_variable("y", 0, 7, pulp.LpInteger)
problem.setObjective(pulp.LpAffineExpression([(y, 1.0)]))
problem.solve(pulp.HiGHS(msg=False, threads=1))
assert y.value() == 7
assert "HiGHS" in pulp.listSolvers(onlyAvailable=True)
"""


@pytest.mark.parametrize("order", list(permutations(IMPORTS)))
def test_native_solvers_share_a_process(order: tuple[str, ...]) -> None:
    program = "\n".join([*order, SOLVE_BOTH])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
