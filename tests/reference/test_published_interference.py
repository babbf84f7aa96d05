"""The contention model on measurements that iGniter publishes (Xu et al., IEEE TPDS 34(3), 2023; its repository
icloud-ecnu/igniter, i-Gniter/Algorithm/config): V100, TensorRT, batch 16, two copies of a network at 50 % of the SMs
each under MPS: milliseconds that the GPU is active alone and together, clocks, and L2 utilisation alone.
"""

from profiles.interference import Demand, Observation, fit_contention

BASE_MHZ = 1530.0
MEASURED = {
    "alexnet": (3.683357483492683, 3.8653183524862014, 1513.6153846153845, 0.1606),
    "resnet50": (20.269946725143058, 21.29648996994784, 1509.3846153846155, 0.1687),
    "vgg19": (52.02463450160937, 58.58459793125798, 1409.6923076923076, 0.1861),
    "ssd": (81.39911656740726, 89.0053504056297, 1457.75, 0.1833),
}
"""Alone, together, MHz together, L2 utilisation."""


def published() -> list[Observation]:
    """Slow-downs at equal clocks: what a lower clock adds is the power limit's doing, no contention."""
    found = []
    for number, (alone_ms, together_ms, mhz, cache) in enumerate(MEASURED.values()):
        # Arithmetic utilisation is not published; at shares that fit together it plays no part.
        demand = Demand(share_fraction=0.5, compute_fraction=0.5, bandwidth_fraction=cache)
        slowdown = together_ms * mhz / BASE_MHZ / alone_ms
        found.append(Observation(pair=number, own=demand, neighbour=demand, slowdown=slowdown))
    return found


def test_networks_left_out_of_the_fit_are_predicted_within_igniters_own_error() -> None:
    model = fit_contention(published())
    assert model.held_out_median_error_fraction < 0.02
    assert model.held_out_p90_error_fraction < 0.046, "iGniter's predictions are 2.4 to 4.6 % off its measurements"


def test_partitions_that_fit_slow_down_by_the_shared_cache_alone() -> None:
    model = fit_contention(published())
    assert model.weights["slice"] == model.weights["arithmetic"] == model.weights["bandwidth"] == 0.0
    assert model.weights["cache"] + model.weights["launch"] > 0.0
    for one in published():
        assert 1.0 < model.slowdown(one.own, [one.neighbour]) < 1.1
