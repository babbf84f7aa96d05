import pytest

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import GpuId, Plan
from planner.progress import Progress
from planner.spec_load import load_spec
from tests.small_spec import SMALL, written
from ui.colours import PALETTE, colours, ink, letters
from ui.gpu_map import IDLE_NAME, gpu_map, gpu_rows, group_rows


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    text = SMALL.replace("buy: gpu, gpus_per_node: 4", "buy: node, gpus_per_node: 4, racks: 2")
    return plan_spec(load_spec(written(tmp_path_factory.mktemp("map"), text)), PlanOptions(), Progress())


def test_every_gpu_that_is_paid_for_is_there_once(plan: Plan) -> None:
    rows = gpu_rows(plan)
    assert len(rows) == sum(c.bought for c in plan.gpu_counts.values()) == 4
    assert list(rows["model"]).count(IDLE_NAME) == 3
    assert not rows.duplicated(["node", "GPU"]).any()


def test_shares_of_one_gpu_lie_beside_each_other(plan: Plan) -> None:
    (group,) = plan.groups
    (whole,) = group.replicas
    half = whole.model_copy(update={"sm_fraction": 0.5})
    other = half.model_copy(update={"model": "other"})
    shared = plan.model_copy(update={"groups": (group.model_copy(update={"replicas": (half, other)}),)})
    rows = gpu_rows(shared)
    first, second = (rows[rows["model"] == name].iloc[0] for name in ("tiny", "other"))
    assert first["right"] == second["left"]
    assert first["GPU"] == second["GPU"]


def test_phases_of_one_group_have_gpus_of_their_own(plan: Plan) -> None:
    (group,) = plan.groups
    (whole,) = group.replicas
    phases = tuple(whole.model_copy(update={"role": role}) for role in ("prefill", "decode"))
    ids = tuple(GpuId(node="l4-0", index=i) for i in (0, 1))
    apart = group.model_copy(update={"kind": "disaggregated", "replicas": phases, "gpu_ids": ids})
    rows = gpu_rows(plan.model_copy(update={"groups": (apart,)}))
    used = rows[rows["model"] == "tiny"]
    assert list(used["GPU"]) == [0, 1] and (used["right"] - used["left"]).max() < 1.0


def test_groups_are_joined_by_runs_of_neighbours(plan: Plan) -> None:
    (group,) = plan.groups
    ids = tuple(GpuId(node="l4-0", index=i) for i in (0, 1, 3))
    joined = group_rows(plan.model_copy(update={"groups": (group.model_copy(update={"gpu_ids": ids}),)}))
    assert joined[["first", "last"]].to_numpy().tolist() == [[0.5, 1.5], [3.5, 3.5]]


def test_the_map_is_a_valid_chart(plan: Plan) -> None:
    chart = gpu_map(plan, gpu_rows(plan)).to_dict()
    assert len(chart["layer"]) == 3


def test_a_name_keeps_its_colour_when_others_come_after_it() -> None:
    assert colours(["a", "b"]) == {"a": PALETTE[0], "b": PALETTE[1]}
    assert colours(["a", "b", "c"])["b"] == PALETTE[1]
    assert len(set(colours(map(str, range(12))).values())) == 12


def test_more_models_than_colours_are_told_apart_by_letters() -> None:
    names = [f"m{i}" for i in range(40)]
    marked = letters(names)
    assert (marked["m0"], marked["m25"], marked["m26"]) == ("A", "Z", "AA")
    assert len(set(marked.values())) == 40
    assert (ink("#0072B2"), ink("#E69F00")) == ("white", "black")
