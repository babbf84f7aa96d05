"""The contention model: fitted on pairs whose law is known, and what a file gives."""

import datetime
import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from profiles.catalogue_files import Provenance
from profiles.errors import ProfileError
from profiles.evidence import Evidence
from profiles.interference import (
    TERMS,
    Contention,
    Demand,
    Interference,
    Load,
    Observation,
    Pair,
    features,
    fit_contention,
    load_interference,
    observations,
)

TRUE = {"slice": 0.2, "arithmetic": 0.9, "bandwidth": 1.1, "cache": 0.1, "launch": 0.02}
KINDS = {
    "gemm": Demand(share_fraction=1.0, compute_fraction=0.9, bandwidth_fraction=0.1),
    "decode": Demand(share_fraction=1.0, compute_fraction=0.02, bandwidth_fraction=0.9),
    "prefill": Demand(share_fraction=1.0, compute_fraction=0.6, bandwidth_fraction=0.2),
    "thin": Demand(share_fraction=1.0, compute_fraction=0.2, bandwidth_fraction=0.8),
    "half gemm": Demand(share_fraction=0.5, compute_fraction=0.45, bandwidth_fraction=0.05),
    "half decode": Demand(share_fraction=0.5, compute_fraction=0.01, bandwidth_fraction=0.7),
}
DEMANDS = st.builds(
    Demand,
    share_fraction=st.floats(0.01, 1),
    compute_fraction=st.floats(0, 1),
    bandwidth_fraction=st.floats(0, 1),
)


def lawful(noise: float = 0.0) -> Interference:
    """A file whose pairs follow the law of TRUE, up to noise."""
    rng = np.random.default_rng(1)
    weights = np.array([TRUE[term] for term in TERMS])
    loads = {n: Load(kernel="gemm", columns={"m": 1}, alone_s=1e-3, demand=d) for n, d in KINDS.items()}
    pairs = []
    for a, b in itertools.combinations_with_replacement(KINDS, 2):
        first, second = (
            (1 + float(features(KINDS[x], [KINDS[y]]) @ weights)) * float(np.exp(noise * rng.normal()))
            for x, y in ((a, b), (b, a))
        )
        pairs.append(Pair(first=a, second=b, first_slowdown=first, second_slowdown=second, spread_fraction=0.0))
    return Interference(
        gpu="h200-sxm-141gb",
        device="made up",
        sharing=("streams",),
        loads=loads,
        pairs=tuple(pairs),
        contention=fit_contention(observations(loads, pairs)),
        sources=(Provenance(source="a law", date=datetime.date(2026, 11, 21), covers=("pairs",)),),
    )


def test_the_fit_finds_the_law_that_made_the_pairs() -> None:
    model = lawful().contention
    assert model.weights == pytest.approx(TRUE, abs=1e-4)
    assert model.pairs == 21 and model.held_out_p90_error_fraction < 1e-3


def test_the_error_on_pairs_left_out_is_that_of_the_noise() -> None:
    model = lawful(noise=0.05).contention
    assert 0.015 < model.held_out_median_error_fraction < 0.08
    assert model.held_out_p90_error_fraction > model.held_out_median_error_fraction


def test_a_neighbour_that_speeds_up_counts_as_none() -> None:
    seen = [Observation(pair=number, own=KINDS["gemm"], neighbour=KINDS["decode"], slowdown=0.9) for number in range(3)]
    model = fit_contention(seen)
    assert set(model.weights.values()) == {0.0}
    assert model.slowdown(KINDS["gemm"], [KINDS["decode"]]) == 1.0


@given(own=DEMANDS, first=DEMANDS, second=DEMANDS, more=st.floats(0, 1))
def test_slowdowns_are_at_least_one_and_grow_with_the_neighbours(
    own: Demand, first: Demand, second: Demand, more: float
) -> None:
    model = Contention(weights=TRUE, pairs=2, held_out_median_error_fraction=0.0, held_out_p90_error_fraction=0.0)
    one = model.slowdown(own, [first])
    assert one >= 1.0 and model.slowdown(own, []) == 1.0
    assert model.slowdown(own, [first, second]) >= one - 1e-12
    for name in ("share_fraction", "compute_fraction", "bandwidth_fraction"):
        grown = first.model_copy(update={name: max(getattr(first, name), more)})
        assert model.slowdown(own, [grown]) >= one - 1e-12


def test_a_prediction_says_how_it_is_known() -> None:
    held = lawful(noise=0.1)
    exact = held.measured("gemm", "decode")
    assert exact is not None
    assert held.predict(KINDS["gemm"], [KINDS["decode"]], held.gpu) == (exact, Evidence.MEASURED)
    assert held.measured("decode", "gemm") != exact, "each of a pair has a slowdown of its own"
    three = held.predict(KINDS["gemm"], [KINDS["decode"], KINDS["thin"]], held.gpu)
    assert three[1] is Evidence.FITTED and three[0] > 1
    other = held.predict(KINDS["gemm"], [KINDS["decode"]], "h100-sxm-80gb")
    assert other == (held.contention.slowdown(KINDS["gemm"], [KINDS["decode"]]), Evidence.MODELLED)
    assert held.predict(KINDS["gemm"], [], held.gpu)[0] == 1.0


def test_a_file_is_read_back_and_a_wrong_one_refused(tmp_path: Path) -> None:
    held = lawful()
    path = tmp_path / "i.yaml"
    payload = held.model_dump(mode="json")
    path.write_text(yaml.safe_dump(payload))
    assert load_interference(path) == held
    payload["pairs"][0]["second"] = "nobody"
    path.write_text(yaml.safe_dump(payload))
    with pytest.raises(ProfileError, match="a pair names the load 'nobody'"):
        load_interference(path)
    payload = held.model_dump(mode="json")
    del payload["contention"]["weights"]["cache"]
    path.write_text(yaml.safe_dump(payload))
    with pytest.raises(ProfileError, match="weights must be given for slice"):
        load_interference(path)


def test_one_pair_is_too_few() -> None:
    one = Observation(pair=0, own=KINDS["gemm"], neighbour=KINDS["gemm"], slowdown=2.0)
    with pytest.raises(ProfileError, match="at least two pairs"):
        fit_contention([one])
