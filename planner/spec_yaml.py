"""YAML or JSON text to plain data with the line of every field, for files that nobody vouches for.

No tags, no anchors, no duplicate keys, no NaN, bounded size and depth: what is refused is refused before it is built.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from planner.spec_errors import Fault, SpecError

MOST_BYTES = 2_000_000
MOST_DEPTH = 20
MOST_NODES = 200_000
PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
# YAML 1.1 reads 010 as 8 and 1:30 as 90; nobody who writes a spec means that.
OCTAL_OR_SEXAGESIMAL = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FieldPath = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """Plain data, and the line (from 1) of every path in it."""

    file: str
    data: Any = None
    lines: dict[FieldPath, int] = field(default_factory=dict)

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest thing that holds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_document(path: Path) -> Document:
    """The document of a file. SpecError when it cannot be read or is not one plain YAML document."""
    return parse_document(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecError(str(path), [Fault(line=1, field="", what=f"cannot be read: {error.strerror}.")]) from error
    if len(raw) > MOST_BYTES:
        raise SpecError(str(path), [Fault(line=1, field="", what="is larger than 2 MB: that is no spec.")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(str(path), [Fault(line=1, field="", what="is not text (UTF-8).")]) from error


def parse_document(text: str, file: str) -> Document:
    """The one document of a text. SpecError with the line of what is wrong."""
    document = Document(file=file)
    _refuse_anchors(text, file)
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise SpecError(file, [Fault(line=1, field="", what="is empty: a spec starts with 'version: 1'.")])
        document.data = _Builder(document, loader).build(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(file, [Fault(line=line, field="", what=f"is not valid YAML: {reason}.")]) from error
    except (RecursionError, ValueError) as error:
        raise SpecError(file, [Fault(line=1, field="", what=f"cannot be understood: {str(error)[:100]}.")]) from error
    finally:
        loader.dispose()
    return document


def _refuse_anchors(text: str, file: str) -> None:
    """Anchors and deep nesting are refused on the event stream, before any tree is built."""
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, Loader=LOADER)):
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            if getattr(event, "anchor", None) is not None:
                what = "anchors and aliases (& and *) are not allowed in a spec: write the value out."
                raise SpecError(file, [Fault(line=line, field="", what=what)])
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MOST_DEPTH or count > MOST_NODES:
                raise SpecError(
                    file, [Fault(line=line, field="", what="is nested too deeply or too large for a spec.")]
                )
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else 1
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(file, [Fault(line=line, field="", what=f"is not valid YAML: {reason}.")]) from error


class _Builder:
    """Builds plain data from nodes and notes lines."""

    def __init__(self, document: Document, loader: Any) -> None:
        self._document = document
        self._loader = loader

    def build(self, node: yaml.Node, path: FieldPath) -> Any:
        """The data of a node; SpecError for tags, duplicate keys and numbers that are none."""
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, path)
            return [self.build(child, (*path, position)) for position, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        self._check_tag(node, path)
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                raise self._fault(key_node, path, "field names must be plain words.")
            key = str(key_node.value)
            here = (*path, key)
            if key in found:
                raise self._fault(key_node, here, "is given twice.")
            self._document.lines[here] = key_node.start_mark.line + 1
            found[key] = self.build(value_node, here)
        return found

    def _scalar(self, node: yaml.Node, path: FieldPath) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        self._check_tag(node, path)
        # YAML 1.1 takes 1e6 for text, people and JSON take it for a number.
        plain = getattr(node, "style", None) in (None, "") and isinstance(node.value, str)
        value = float(node.value) if plain and EXPONENT.fullmatch(node.value) else self._loader.construct_object(node)
        if isinstance(value, int | float) and OCTAL_OR_SEXAGESIMAL.fullmatch(node.value):
            raise self._fault(node, path, f"'{node.value[:40]}' is not a plain decimal number: quote it if it is text.")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._fault(node, path, f"'{node.value[:40]}' is not a finite number.")
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**18:
            raise self._fault(node, path, "is too large a number.")
        return value

    def _check_tag(self, node: yaml.Node, path: FieldPath) -> None:
        if node.tag not in PLAIN_TAGS:
            raise self._fault(node, path, f"the tag {node.tag[:60]} is not allowed: plain values only.")

    def _fault(self, node: yaml.Node, path: FieldPath, what: str) -> SpecError:
        name = field_name(path)
        return SpecError(self._document.file, [Fault(line=node.start_mark.line + 1, field=name, what=what)])


def field_name(path: FieldPath) -> str:
    """A path as a person reads it: `workloads[2].slo.ttft_ms`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
