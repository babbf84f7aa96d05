"""The placement problem: which node and which GPU indices every copy of the mix takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadRule:
    """The groups stand in at least `min_domains` distinct domains (`level`: 0 node, 1 rack, 2 zone)."""

    rule: str
    groups: tuple[int, ...]
    level: int
    min_domains: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRule:
    """At most `max_per_domain` of the groups in any one domain (`level` as above): survival by node or rack."""

    rule: str
    groups: tuple[int, ...]
    level: int
    max_per_domain: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartRule:
    """No node (level 0), rack (1) or zone (2) holds a group of `first` and a group of `second`."""

    rule: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceProblem:
    """N nodes, G groups. A group takes `group_gpus[g]` GPUs of one node of its pool, all inside one NVLink domain
    of that node when `group_one_domain[g]`; a group larger than a node takes whole nodes of one rack.

    `node_rack` and `node_zone` are global ids (a rack id belongs to one zone and one pool). `node_domain_gpus[n]`: GPUs
    of an NVLink domain on node n (indices [0, k), [k, 2k), …). `allowed[g, n]`: pools and pins, already applied.
    `current_node[g]`: where the group runs now, −1 if new; staying costs nothing, moving costs `group_gpus[g]`.
    """

    node_pool: IntArray  # [N]
    node_rack: IntArray  # [N]
    node_zone: IntArray  # [N]
    node_gpus: IntArray  # [N]
    node_domain_gpus: IntArray  # [N]
    group_pool: IntArray  # [G]
    group_gpus: IntArray  # [G]
    group_one_domain: BoolArray  # [G]
    group_kind: IntArray  # [G] groups of one kind (queue) are interchangeable
    allowed: BoolArray  # [G, N]
    current_node: IntArray  # [G], −1: new
    max_nodes_used: IntArray  # [P] nodes of each pool that may be used (bought)
    spread: tuple[SpreadRule, ...] = ()
    caps: tuple[CapRule, ...] = ()
    apart: tuple[ApartRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """For each group, the nodes it takes (one, or several for a group larger than a node) and its GPU indices there."""

    group_nodes: tuple[tuple[int, ...], ...]
    group_gpu_indices: tuple[tuple[tuple[int, ...], ...], ...]  # per group, per node of it
    moves_gpus: int
    nodes_used: IntArray  # [P]


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """Why no placement exists: a set of groups that cannot be placed together (irreducible when `minimal`)."""

    groups: tuple[int, ...]
    rules: tuple[str, ...]
    minimal: bool
