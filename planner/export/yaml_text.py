"""YAML as people read it: every value written out (no anchors), texts of several lines as blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes every value out (no anchors)."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text_node)


def one_text(value: Mapping[str, Any]) -> str:
    """One document, in the order of the mapping."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False))


def several_text(values: Sequence[Mapping[str, Any]]) -> str:
    """Several documents, each after `---`."""
    return str(yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, explicit_start=True))
