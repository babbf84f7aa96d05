"""Names that are safe as file, host and Kubernetes names at once."""

import hashlib
import re
from collections.abc import Iterable

LABEL_LENGTH = 52
"""Leaves room for what a target appends (a copy's number, a pod's hash) within the 63 of RFC 1035."""
DIGEST_LENGTH = 6


def labels_of(names: Iterable[str], length: int = LABEL_LENGTH) -> dict[str, str]:
    """A label of at most `length` characters for every name, all different.

    a-z, 0-9 and '-', starting with a letter (RFC 1035, as Services need). A hash of the name is appended where it had
    to be cut or another name has the same label.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        label = _plain(name)
        if len(label) > length or label in found.values():
            digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_LENGTH]
            label = f"{label[: length - DIGEST_LENGTH - 1].strip('-')}-{digest}"
        found[name] = label
    return found


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain if plain[:1].isalpha() else f"q-{plain}".rstrip("-")
