from pathlib import Path

import pytest

from planner.spec_edit import FieldPathError, field_values, with_changes
from planner.spec_errors import SpecError
from planner.spec_load import Loaded, load_spec
from tests.small_spec import SMALL, written

DOTTED = SMALL.replace("name: chat", "name: chat.v1") + "constraints:\n  - {kind: max_gpus, pool: l4, count: 3}\n"


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return load_spec(written(tmp_path, DOTTED))


def test_items_go_by_name_index_and_star(loaded: Loaded) -> None:
    for path in ("workloads.chat.v1.traffic.rate_rps", "workloads[0].traffic.rate_rps", "workloads.*.traffic.rate_rps"):
        assert with_changes(loaded, {path: 20}).spec.workloads[0].traffic.rate_rps == 20


def test_a_factor_multiplies_and_counts_stay_whole(loaded: Loaded) -> None:
    changed = with_changes(loaded, {"workloads.*.slo.ttft_ms": "x0.5", "cluster.pools.l4.max_nodes": "x1.4"})
    assert changed.spec.workloads[0].slo.ttft_ms == 400
    assert changed.spec.cluster.pools[0].max_nodes == 6


def test_nothing_else_changes(loaded: Loaded) -> None:
    changed = with_changes(loaded, {"constraints[0].count": 2})
    before, after = (s.model_dump() for s in (loaded.spec, changed.spec))
    after["constraints"][0]["count"] = 3
    assert after == before


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("workloads.chat.v1.trafic.rate_rps", "Maybe you meant 'traffic'"),
        ("workloads.chta.v1.traffic.rate_rps", "Maybe you meant 'chat.v1'"),
        ("constraints[1].count", r"\[0\] to \[0\]"),
        ("workloads.chat.v1.tokens.lengths.x", "set that as a whole"),
        ("", "no field ''"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest_name(loaded: Loaded, path: str, hint: str) -> None:
    with pytest.raises(FieldPathError, match=hint):
        with_changes(loaded, {path: 1})


def test_there_is_nothing_to_multiply(loaded: Loaded) -> None:
    with pytest.raises(FieldPathError, match="no number to multiply"):
        with_changes(loaded, {"workloads.*.slo.e2e_ms": "x2"})


def test_a_value_that_does_not_fit_is_told_with_its_line(loaded: Loaded) -> None:
    with pytest.raises(SpecError, match=r"spec\.yaml with .*:11: workloads\[0\]\.traffic\.rate_rps: 'many' is text"):
        with_changes(loaded, {"workloads[0].traffic.rate_rps": "many"})


def test_what_stands_there(loaded: Loaded) -> None:
    assert field_values(loaded, "workloads.*.slo.ttft_ms") == [800]
