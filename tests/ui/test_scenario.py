"""Scenarios as links, and the fence around the workspace."""

import base64
import zlib
from pathlib import Path

import pytest

from tests.small_spec import SMALL, written
from ui.scenario import LinkError, Scenario, as_link, from_link, read_scenario
from ui.workspace import Workspace, WorkspaceError, store_upload

RATE = "workloads.chat.traffic.rate_rps"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "in").mkdir()
    written(tmp_path / "in")
    return Workspace(tmp_path / "in")


def test_a_link_brings_the_scenario_back(workspace: Workspace) -> None:
    for scenario in (
        read_scenario("spec.yaml", workspace),
        read_scenario("spec.yaml", workspace).changed({RATE: 3.0}),
        Scenario(text=SMALL + "# é\n", folder=workspace.folder, root=workspace.folder, changes={RATE: "x2"}),
    ):
        assert from_link(as_link(scenario, workspace), workspace) == scenario
    assert from_link({}, workspace) is None


def test_a_link_never_carries_what_was_uploaded(workspace: Workspace, tmp_path: Path) -> None:
    assert as_link(Scenario(text=SMALL, folder=tmp_path, root=tmp_path), workspace) == {}


def test_a_link_that_unpacks_to_too_much_is_refused(workspace: Workspace) -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 3_000_000)).decode()
    with pytest.raises(LinkError, match="too large"):
        from_link({"yaml": bomb}, workspace)


@pytest.mark.parametrize("name", ["../out.yaml", "/etc/hostname", "link.yaml"])
def test_names_that_lead_out_are_refused(workspace: Workspace, name: str) -> None:
    (workspace.folder.parent / "out.yaml").write_text(SMALL, encoding="utf-8")
    (workspace.folder / "link.yaml").symlink_to("../out.yaml")
    with pytest.raises(WorkspaceError, match="outside"):
        workspace.path(name)


@pytest.mark.parametrize(
    "field", ["architecture: ../x.json", "latency_table: /etc/hostname", "capacity_table: a/../../x"]
)
def test_a_spec_that_names_files_outside_is_refused(workspace: Workspace, field: str) -> None:
    text = SMALL.replace("architecture: qwen3-0.6b", field)
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        Scenario(text=text, folder=workspace.folder, root=workspace.folder).loaded()


def test_baked_changes_are_the_same_spec(workspace: Workspace) -> None:
    changed = read_scenario("spec.yaml", workspace).changed({RATE: "x2", "workloads.chat.slo.ttft_ms": 500})
    assert changed.baked().loaded().spec == changed.loaded().spec
    assert changed.baked().changes == {}


def test_the_workspace_lists_specs_and_plans_apart(workspace: Workspace) -> None:
    (workspace.folder / "plan.yaml").write_text("version: 1\ntermination: optimal\n", encoding="utf-8")
    (workspace.folder / "other.yaml").write_text("a: 1\n", encoding="utf-8")
    (workspace.folder / ".hidden.yaml").write_text(SMALL, encoding="utf-8")
    assert workspace.files(plans=False) == ["spec.yaml"]
    assert workspace.files(plans=True) == ["plan.yaml"]


@pytest.mark.parametrize("name", ["../../x.yaml", "..\\x.yaml", "/tmp/x.yaml"])
def test_uploads_land_in_their_folder_under_their_bare_name(tmp_path: Path, name: str) -> None:
    assert store_upload(tmp_path, name, b"a", (".yaml",)) == tmp_path / "x.yaml"


@pytest.mark.parametrize(("name", "size"), [("x.sh", 1), (".yaml", 1), ("x.yaml", 4_000_001)])
def test_uploads_of_other_kinds_or_too_large_are_refused(tmp_path: Path, name: str, size: int) -> None:
    with pytest.raises(WorkspaceError):
        store_upload(tmp_path, name, b"a" * size, (".yaml",))
    assert not list(tmp_path.iterdir())
