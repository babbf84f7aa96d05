"""`solve`: the best checked placement, and the right word for how it ended."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from solvers import place
from solvers.place import solve
from solvers.place_checker import check
from solvers.place_greedy import place_greedy
from solvers.place_problem import ApartRule, Placement, PlaceProblem
from solvers.result import Termination
from solvers.stop import Stop
from tests.place_cases import fleet, make, running


def test_greedy_is_enough_where_nothing_moves_onto_the_fewest_nodes() -> None:
    problem = make(sizes=[4, 4, 8], racks=[0, 0, 1])
    found = solve(problem, Stop(), 1)
    assert found.termination is Termination.OPTIMAL
    assert found.notes == ("greedy",)
    assert found.work == 0
    assert found.gap_fraction == 0.0


def test_a_large_fleet_stands_on_no_more_nodes_than_any_placement_needs() -> None:
    problem = fleet(1, nodes=1250, kinds=300, fill_fraction=0.9)
    loose = place_greedy(problem)
    found = solve(problem, Stop(), 1)
    assert found.termination is Termination.OPTIMAL
    assert found.solution is not None
    assert loose is not None
    # 9,000 GPUs: 1,125 nodes of 8 are the least; greedy alone, free to open nodes, takes more.
    assert int(found.solution.nodes_used[0]) == 1125 < int(loose.nodes_used[0])


def test_importing_placement_does_not_import_cp_sat() -> None:
    program = "import sys, solvers.place, solvers.place_core; print('ortools' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_cp_sat_proves_that_a_move_is_needed() -> None:
    problem = make(sizes=[2] * 6 + [4], racks=[0, 0], kinds=[0] * 6 + [1], current=[0, 0, 0, 1, 1, 1, -1])
    found = solve(problem, Stop(), 1)
    assert found.termination is Termination.OPTIMAL
    assert found.objective == found.bound == 2.0


def test_cp_sat_finds_what_greedy_does_not() -> None:
    problem = fleet(0, nodes=60, kinds=25, fill_fraction=0.9)
    tight = replace(problem, max_nodes_used=np.array([54]))
    assert place_greedy(tight) is None
    found = solve(tight, Stop(), 1)
    assert found.termination is Termination.OPTIMAL
    assert found.solution is not None
    assert check(tight, found.solution) == []


def test_a_better_placement_without_the_proof_is_called_feasible() -> None:
    plain = fleet(4, nodes=20, kinds=8, fill_fraction=0.85)
    current = np.random.default_rng(4).integers(20, size=len(plain.group_gpus))
    problem = replace(plain, current_node=current, spread=())
    greedy = place_greedy(problem)
    found = solve(problem, Stop(max_deterministic_s=0.05), 1)
    assert found.termination is Termination.FEASIBLE
    assert found.notes == ("CP-SAT",)
    assert greedy is not None
    assert found.solution is not None
    assert found.solution.moves_gpus < greedy.moves_gpus


def test_infeasible_is_proved_plainly_or_by_search() -> None:
    plain = make(sizes=[8, 1], racks=[0])
    searched = replace(
        make(sizes=[4, 2, 2], racks=[0, 0], kinds=[0, 1, 1], most_nodes=1),
        apart=(ApartRule(rule="a", first=(0,), second=(1, 2), level=0),),
    )
    for problem in (plain, searched):
        found = solve(problem, Stop(), 1)
        assert found.termination is Termination.INFEASIBLE
        assert found.solution is None


def test_unknown_is_said_to_be_unknown() -> None:
    problem = fleet(0, nodes=60, kinds=25, fill_fraction=0.9)
    tight = replace(problem, max_nodes_used=np.array([54]))
    found = solve(tight, Stop(max_deterministic_s=1e-6), 1)
    assert found.termination is Termination.TIME_LIMIT
    assert found.solution is None


def test_a_cancelled_solve_keeps_what_greedy_found() -> None:
    problem = make(sizes=[2] * 6 + [4], racks=[0, 0], kinds=[0] * 6 + [1], current=[0, 0, 0, 1, 1, 1, -1])
    found = solve(problem, Stop(cancelled=lambda: True), 1)
    assert found.termination is Termination.CANCELLED
    assert found.solution is not None
    assert check(problem, found.solution) == []
    hard = replace(fleet(0, nodes=60, kinds=25, fill_fraction=0.9), max_nodes_used=np.array([54]))
    nothing = solve(hard, Stop(cancelled=lambda: True), 1)
    assert nothing.termination is Termination.CANCELLED
    assert nothing.solution is None


def test_a_fleet_too_large_for_cp_sat_has_an_answer_without_the_claim() -> None:
    problem = fleet(2, nodes=400, kinds=100, fill_fraction=0.97)
    first = place_greedy(problem)
    assert first is not None
    crowded = replace(running(problem, first), max_nodes_used=np.array([int(first.nodes_used[0]) - 1]))
    assert solve(problem, Stop(), 1).solution is not None
    found = solve(crowded, Stop(), 1)
    assert found.termination in (Termination.FEASIBLE, Termination.TIME_LIMIT, Termination.INFEASIBLE)


def test_an_answer_that_breaks_a_rule_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(problem: PlaceProblem) -> Placement | None:
        found = place_greedy(problem)
        return None if found is None else replace(found, moves_gpus=found.moves_gpus + 1)

    monkeypatch.setattr(place, "place_greedy", wrong)
    with pytest.raises(RuntimeError, match="said to move"):
        solve(make(sizes=[4], racks=[0]), Stop(), 1)


def test_one_seed_one_placement() -> None:
    problem = replace(fleet(0, nodes=60, kinds=25, fill_fraction=0.9), max_nodes_used=np.array([54]))
    first, second = (solve(problem, Stop(), 7).solution for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.group_nodes == second.group_nodes
    assert first.group_gpu_indices == second.group_gpu_indices
