"""A scenario: a spec's text, and the changes made to it by forms and sliders; as a link and back."""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from planner.spec_edit import with_changes
from planner.spec_load import Loaded, checked
from planner.spec_resolve import resolve
from planner.spec_yaml import parse_document
from profiles.errors import PlanningError
from ui.workspace import Workspace, guard

MOST_LINK_CHARACTERS = 12_000
MOST_TEXT_BYTES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`text` as it was read or typed; `changes`: path → value, over it.

    Files that it names are relative to `folder` and lie within `root`: the workspace, or what a session uploaded.
    `file`: the workspace's file that the text was read from; None once it was typed or uploaded.
    """

    text: str
    folder: Path
    root: Path
    file: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def loaded(self) -> Loaded:
        """The spec with the changes. SpecError, FieldPathError or WorkspaceError when it cannot be used."""
        loaded = checked(parse_document(self.text, self.file or "the spec"), self.folder)
        if self.changes:
            loaded = with_changes(loaded, self.changes)
        guard(loaded.spec.model_dump(mode="json"), self.folder, self.root)
        return loaded

    def changed(self, changes: Mapping[str, Any]) -> "Scenario":
        """The scenario with these changes instead of its own."""
        return replace(self, changes=dict(changes))

    def mark(self) -> str:
        """A short name of the text and its changes, for the keys of fields: another scenario has fields of its own."""
        said = json.dumps([self.text, dict(self.changes)], sort_keys=True)
        return hashlib.blake2b(said.encode(), digest_size=6).hexdigest()

    def baked(self) -> "Scenario":
        """The same spec as text of its own, without changes (comments and layout of the text are lost)."""
        return replace(self, text=spec_text(self.loaded()), file=None, changes={})


def digest(loaded: Loaded) -> str:
    """The digest that a plan of the spec carries. SpecError when names in it are not known."""
    return resolve(loaded).digest


def spec_text(loaded: Loaded) -> str:
    """The spec as YAML, without what is at its default."""
    data = loaded.spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def as_link(scenario: Scenario, workspace: Workspace) -> dict[str, str]:
    """Query parameters that carry the scenario; empty when it is too large for a link, or names uploaded files."""
    if not scenario.folder.is_relative_to(workspace.folder):
        return {}
    link = {"set": json.dumps(dict(scenario.changes), separators=(",", ":"))} if scenario.changes else {}
    if scenario.file is not None:
        return {"spec": scenario.file, **link}
    packed = base64.urlsafe_b64encode(zlib.compress(scenario.text.encode(), 9)).decode()
    link["in"] = scenario.folder.relative_to(workspace.folder).as_posix()
    return {"yaml": packed, **link} if len(packed) <= MOST_LINK_CHARACTERS else {}


class LinkError(PlanningError):
    """A link carries no scenario that can be read."""


def from_link(parameters: Mapping[str, str], workspace: Workspace) -> Scenario | None:
    """The scenario of a link; None when it carries none. LinkError when it is damaged or leads out."""
    try:
        changes = json.loads(parameters.get("set", "{}"))
    except ValueError as error:
        raise LinkError("the link's changes cannot be read: it was cut or mistyped.") from error
    if not isinstance(changes, dict):
        raise LinkError("the link's changes cannot be read: it was cut or mistyped.")
    if "spec" in parameters:
        return read_scenario(parameters["spec"], workspace).changed(changes)
    if "yaml" in parameters:
        folder = workspace.path(parameters.get("in", "."))
        return Scenario(text=_unpacked(parameters["yaml"]), folder=folder, root=workspace.folder, changes=changes)
    return None


def read_scenario(name: str, workspace: Workspace) -> Scenario:
    """The scenario of a spec file of the workspace. LinkError when it cannot be read."""
    path = workspace.path(name)
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_TEXT_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LinkError(f"{name[:100]} is no spec of this workspace.") from error
    return Scenario(text=text, folder=path.parent, root=workspace.folder, file=name)


def _unpacked(packed: str) -> str:
    unpacker = zlib.decompressobj()
    try:
        # Bounded: a few bytes can unpack to gigabytes.
        raw = unpacker.decompress(base64.urlsafe_b64decode(packed.encode()), MOST_TEXT_BYTES)
        if unpacker.unconsumed_tail:
            raise LinkError("the link's spec is too large.")
        return raw.decode("utf-8")
    except (zlib.error, binascii.Error, UnicodeError, ValueError) as error:
        raise LinkError("the link's spec cannot be read: it was cut or mistyped.") from error
