"""Which point is measured next, on curves whose times are known."""

from collections.abc import Callable

import numpy as np
import pytest

from profiles.adaptive_grid import START_POINTS, AdaptiveGrid, Line, Measured, evened_out, read_line
from profiles.gpus import load_gpu

GPU = load_gpu("h200-sxm-141gb")
GEMM = Line(kernel="gemm", fixed={"operand": "bf16", "n": 4096, "k": 4096}, low=1, high=4096)
DECODE_KEY: dict[str, str | int] = {"operand": "bf16", "head_dim": 128, "heads": 32, "kv_heads": 8, "window": 0}
DECODE = Line(kernel="decode_attention", fixed={**DECODE_KEY, "batch": 4}, low=16, high=8192)
Law = Callable[[int], float]


def smooth(size: int) -> float:
    """Weights read at a steady rate, then arithmetic."""
    return 1e-5 + 1e-8 * size


def stepped(size: int) -> float:
    """Twice as long from 700 on, and flat on both sides."""
    return 2e-5 if size < 700 else 4e-5


RUNS = 20


def measured(lines: list[Line], laws: list[Law], target: float = 0.05, spread: float = 0.0) -> AdaptiveGrid:
    """A grid that asked for points until it was content."""
    grid = AdaptiveGrid(lines=lines, gpu=GPU, target_fraction=target)
    for _ in range(500):
        wanted = grid.next()
        if wanted is None:
            return grid
        number, size = wanted
        grid.add(number, size, Measured(seconds=laws[number](size), spread_fraction=spread, runs=RUNS))
    pytest.fail("the grid is never content")


def asked(lines: list[Line], laws: list[Law], spread: float = 0.0) -> list[tuple[int, int]]:
    """The points in the order in which they were asked for."""
    grid, found = AdaptiveGrid(lines=lines, gpu=GPU, target_fraction=0.05), []
    while (wanted := grid.next()) is not None:
        found.append(wanted)
        grid.add(*wanted, Measured(seconds=laws[wanted[0]](wanted[1]), spread_fraction=spread, runs=RUNS))
    return found


def test_every_line_is_seen_coarsely_before_any_is_refined() -> None:
    order = asked([GEMM, DECODE], [stepped, smooth])
    first = order[: 2 * START_POINTS]
    assert {number for number, _ in order[:2]} == {0, 1}, "no line waits for another one's second point"
    assert {size for number, size in first if number == 0} == set(GEMM.start_sizes())
    assert {size for number, size in first if number == 1} == set(DECODE.start_sizes())


def test_the_points_gather_where_the_curve_bends() -> None:
    sizes = [size for _, size in asked([GEMM], [stepped])]
    inner = [size for size in sizes if size not in GEMM.start_sizes()]
    assert sum(256 < size < 1500 for size in inner) > len(inner) / 2
    below = max(size for size in sizes if size < 700)
    above = min(size for size in sizes if size >= 700)
    assert above / below < 1.6, "the jump is found between two close points"


def test_what_is_left_between_the_points_is_within_the_target() -> None:
    grid = measured([DECODE], [smooth], target=0.03)
    points = {size: smooth(size) for size in DECODE.start_sizes()}
    known = {**points, **{s: smooth(s) for _, s in asked([DECODE], [smooth])}}
    off = [
        abs(read_line(DECODE, known, GPU, s) / smooth(s) - 1) for s in np.geomspace(17, 8000, 60).astype(int).tolist()
    ]
    assert max(off) < 0.05
    assert grid.worst_expected <= 0.03 and grid.remaining == 0


def test_noise_is_not_chased() -> None:
    rng = np.random.default_rng(0)
    noise = {size: float(rng.uniform(0.8, 1.2)) for size in range(1, 4097)}

    def noisy(size: int) -> float:
        return smooth(size) * noise[size]

    assert len(asked([GEMM], [noisy], spread=0.4)) < len(asked([GEMM], [noisy], spread=0.0))


def noisy_runs(law: Law, sigma: float) -> Callable[[int], Measured]:
    """A measure whose runs scatter around the law, always the same at the same size."""

    def measure(size: int) -> Measured:
        runs = law(size) * np.random.default_rng([7, size]).lognormal(0.0, sigma, RUNS)
        low, middle, high = np.quantile(runs, (0.1, 0.5, 0.9)).tolist()
        return Measured(seconds=middle, spread_fraction=(high - low) / middle, runs=RUNS)

    return measure


def refined(measure: Callable[[int], Measured], target: float = 0.05) -> tuple[AdaptiveGrid, dict[int, float]]:
    """A grid of one line that asked until it was content, and what its table holds."""
    grid = AdaptiveGrid(lines=[GEMM], gpu=GPU, target_fraction=target)
    while (wanted := grid.next()) is not None:
        grid.add(*wanted, measure(wanted[1]))
        assert len(grid.seconds(0)) < 100, "noise is chased"
    return grid, grid.seconds(0)


@pytest.mark.parametrize("sigma", [0.1, 0.2])
def test_a_jump_is_found_although_runs_spread_more_than_the_target(sigma: float) -> None:
    grid, known = refined(noisy_runs(stepped, sigma))
    off = [abs(read_line(GEMM, known, GPU, s) / stepped(s) - 1) for s in range(1, 4097, 7) if abs(s - 700) > 120]
    may_be_off = max(grid.limited.get("gemm", 0.05), 0.05)
    assert float(np.quantile(off, 0.9)) < 2 * may_be_off, "no worse than the noise of the points"
    below, above = max(s for s in known if s < 700), min(s for s in known if s >= 700)
    assert above / below < 1.6


def test_falls_within_the_noise_are_evened_out_and_others_kept() -> None:
    points = ((1, 2.1e-5, 0.5), (2, 1.9e-5, 0.5), (4, 4e-5, 0.02), (8, 3e-5, 0.02))
    even = evened_out({n: Measured(seconds=s, spread_fraction=spread, runs=RUNS) for n, s, spread in points})
    assert even[1] == even[2] == pytest.approx((2.1e-5 * 1.9e-5) ** 0.5)
    assert (even[4], even[8]) == pytest.approx((4e-5, 3e-5)), "that is no noise: the lints see it"


def test_what_noise_limits_is_said() -> None:
    assert refined(noisy_runs(smooth, 0.01))[0].limited == {}
    limited = refined(noisy_runs(smooth, 0.4))[0].limited
    assert set(limited) == {"gemm"} and 0.1 < limited["gemm"] < 0.4
    assert len(refined(noisy_runs(smooth, 0.4))[1]) <= len(refined(noisy_runs(stepped, 0.01))[1])


def test_a_size_that_fails_ends_its_line_there() -> None:
    grid = AdaptiveGrid(lines=[GEMM], gpu=GPU, target_fraction=0.05)
    found = []
    while (wanted := grid.next()) is not None:
        if wanted[1] > 300:
            grid.give_up(*wanted)
        else:
            found.append(wanted[1])
            grid.add(*wanted, Measured(seconds=smooth(wanted[1]), spread_fraction=0.0, runs=RUNS))
    assert found and max(found) <= 300
    assert len(found) >= 3, "what is below is measured all the same"


def test_a_middle_that_fails_is_asked_for_once() -> None:
    grid, failed = AdaptiveGrid(lines=[GEMM], gpu=GPU, target_fraction=0.01), []
    while (wanted := grid.next()) is not None:
        if wanted[1] not in GEMM.start_sizes():
            failed.append(wanted[1])
            grid.give_up(*wanted)
        else:
            grid.add(*wanted, Measured(seconds=stepped(wanted[1]), spread_fraction=0.0, runs=RUNS))
    assert failed and len(failed) == len(set(failed))


def test_a_line_that_cannot_run_at_all_is_dropped() -> None:
    grid = AdaptiveGrid(lines=[GEMM, DECODE], gpu=GPU, target_fraction=0.05)
    grid.give_up(0, GEMM.low)
    found = []
    while (wanted := grid.next()) is not None:
        found.append(wanted[0])
        grid.add(*wanted, Measured(seconds=smooth(wanted[1]), spread_fraction=0.0, runs=RUNS))
    assert set(found) == {1}
