"""How long mixes of realistic size take: over staffings, and over all copies at once."""

import time

import pytest

from solvers.mix_milp import solve, solve_wide
from solvers.stop import Stop
from tests.mix_cases import realistic

SIZES = [(6, 50, 0), (6, 50, 1), (8, 40, 7), (12, 30, 2), (12, 40, 3), (16, 25, 6), (20, 30, 4), (20, 30, 5)]


@pytest.mark.parametrize(("workloads", "queues", "seed"), SIZES)
def test_mix_speed(workloads: int, queues: int, seed: int) -> None:
    problem = realistic(seed, workloads, queues)
    stop = Stop(gap_fraction=1e-3, wall_limit_s=10.0)
    started = time.perf_counter()
    narrow = solve(problem, stop, 1)
    middle = time.perf_counter()
    wide = solve_wide(problem, stop, 1)
    ended = time.perf_counter()
    assert narrow.objective is not None
    assert narrow.gap_fraction is not None
    print(  # noqa: T201 (a benchmark's result)
        f"\n{workloads} workloads, {workloads * queues} queues, {len(problem.bracket_queue)} brackets: "
        f"{middle - started:.2f} s at a gap of {narrow.gap_fraction:.2%}, "
        f"ratio to all copies at once {(middle - started) / (ended - middle):.2f} ({wide.termination})"
    )
    assert narrow.gap_fraction <= 0.01
