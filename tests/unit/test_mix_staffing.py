"""Cheapest staffings: the compiled table against a slow one, the enumeration against trying everything."""

from itertools import product

import numpy as np
import pytest

from solvers.mix_model import build
from solvers.mix_staffing import UNITS, Staffer, staffers, stands_alone
from solvers.staffing_kernel import cover_costs
from tests.mix_cases import make, realistic, two_pools


def slow_costs(options: list[list[tuple[int, int]]], weights: list[float], total: int) -> list[float]:
    """Least cost that covers k units, k = 0..total, by trying every choice of (copies, units) or nothing."""
    best = [np.inf] * (total + 1)
    for choice in product(*[[(0, 0), *own] for own in options]):
        cost = sum(w * copies for w, (copies, _) in zip(weights, choice, strict=True))
        for k in range(min(total, sum(units for _, units in choice)) + 1):
            best[k] = min(best[k], cost)
    return best


def test_the_table_of_least_costs() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        options = [[(i + 1, int(rng.integers(1, 14))) for i in range(int(rng.integers(1, 4)))] for _ in range(3)]
        weights = rng.uniform(0.0, 5.0, 3)
        starts = np.concatenate(([0], np.cumsum([len(own) for own in options]))).astype(np.int64)
        copies = np.array([c for own in options for c, _ in own], dtype=np.int64)
        units = np.array([u for own in options for _, u in own], dtype=np.int64)
        table = cover_costs(starts, copies, units, weights, 25)
        assert table[0] == pytest.approx(slow_costs(options, weights.tolist(), 25))


def staffer(seed: int, queues: int = 8) -> Staffer:
    model = build(realistic(seed, 1, queues))
    return staffers(model, np.array([True]))[0]


@pytest.mark.parametrize("seed", range(6))
def test_every_staffing_within_the_margin_is_found(seed: int) -> None:
    own = staffer(seed, 3)
    weights = np.random.default_rng(seed).uniform(1.0, 2.0, len(own.classes)) * own.taken[:, 0:4].max(axis=1)
    weights = np.maximum(weights, 0.5)
    cheap = own.cheap(weights, margin=3.0, most=10_000)
    assert cheap.margin == pytest.approx(3.0)
    found = {tuple(counts) for counts in cheap.counts.tolist()}
    every = [dict(zip(c.copies.tolist(), c.covered.tolist(), strict=True)) for c in own.classes]
    seen = 0
    for counts in product(*every):
        covered = sum(e[n] for e, n in zip(every, counts, strict=True))
        cost = float(weights @ np.array(counts))
        if covered < 1.0:
            continue
        # The least cost is rounded down by less than one unit of coverage.
        assert cost >= cheap.least - 1e-9
        if cost <= cheap.least + 3.0 - 1e-9:
            seen += 1
            taken = np.array(counts) @ own.taken
            assert any(np.all(np.array(other) @ own.taken <= taken) for other in found), counts
    assert seen >= 1


def test_the_split_serves_what_the_class_promises() -> None:
    own = staffer(2)
    for counts in own.cheap(np.ones(len(own.classes)), 2.0, 50).counts:
        assert sum(own.split(counts).values()) == counts.sum()


def test_the_margin_shrinks_when_staffings_are_left_out() -> None:
    own = staffer(1)
    weights = np.ones(len(own.classes))
    every, few = own.cheap(weights, 5.0, 10_000), own.cheap(weights, 5.0, 3)
    assert len(few.counts) <= 3 < len(every.counts)
    assert few.margin < every.margin
    kept = {tuple(c) for c in few.counts.tolist()}
    left_out = [c for c in every.counts.tolist() if tuple(c) not in kept]
    assert min(float(weights @ np.array(c)) for c in left_out) >= few.least + few.margin - 1e-9


def test_a_cut_for_unmet_demand_lies_below_every_staffing() -> None:
    own = staffer(3)
    weights = np.linspace(1.0, 2.0, len(own.classes))
    least, slope = own.cover_cut(weights)
    table = own._costs(weights)[0]
    for k in range(0, UNITS + 1, 50):
        assert table[k] >= least - slope * (1 - k / UNITS) - 1e-9


def test_demands_that_share_a_queue_do_not_stand_alone() -> None:
    problem = make(
        prices=[1.0],
        per_node=[8],
        nodes=[9],
        by_node=[False],
        rates=[4.0, 3.0],
        queues=[(0, 1, 9, [0.5, 0.5]), (0, 1, 9, [0.0, 1.0])],
        brackets=[[(1, 9, 1.0)], [(1, 9, 1.0)]],
    )
    assert not stands_alone(problem, 0)
    assert stands_alone(two_pools(), 0)
