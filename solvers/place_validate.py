"""Whether a placement problem is well formed: shapes, whole numbers, ids in range, rules on groups that exist."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvers.place_problem import PlaceProblem

NODE_FIELDS = ("node_pool", "node_rack", "node_zone", "node_gpus", "node_domain_gpus")
GROUP_FIELDS = ("group_pool", "group_gpus", "group_one_domain", "group_kind", "current_node")
LEVELS = 3
MOST_GPUS = 4096


def validate(problem: PlaceProblem) -> None:
    """Raise ValueError, naming the field, for anything that is not a placement problem."""
    nodes, groups = len(problem.node_gpus), len(problem.group_gpus)
    for name in NODE_FIELDS:
        _array(problem, name, (nodes,))
    for name in GROUP_FIELDS:
        _array(problem, name, (groups,))
    _array(problem, "allowed", (groups, nodes))
    pools = len(problem.max_nodes_used)
    _array(problem, "max_nodes_used", (pools,))
    for name in ("node_gpus", "node_domain_gpus", "group_gpus"):
        _between(problem, name, 1, MOST_GPUS)
    for name, most in (("node_pool", pools - 1), ("group_pool", pools - 1), ("max_nodes_used", None)):
        _between(problem, name, 0, most)
    for name in ("node_rack", "node_zone", "group_kind"):
        _between(problem, name, 0, None)
    _between(problem, "current_node", -1, nodes - 1)
    _racks(problem)
    _rules(problem)


def _array(problem: PlaceProblem, name: str, shape: tuple[int, ...]) -> None:
    value = getattr(problem, name)
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise ValueError(f"{name} must be an array of shape {shape}, not {np.shape(value)}")
    wanted = np.bool_ if name in ("allowed", "group_one_domain") else np.integer
    if not np.issubdtype(value.dtype, wanted):
        raise ValueError(f"{name} must hold {'booleans' if wanted is np.bool_ else 'whole numbers'}, not {value.dtype}")


def _between(problem: PlaceProblem, name: str, least: int, most: int | None) -> None:
    value: NDArray[np.int64] = getattr(problem, name)
    if value.size and (value.min() < least or (most is not None and value.max() > most)):
        raise ValueError(
            f"{name} must lie between {least} and {most if most is not None else 'any number'}, "
            f"but holds {value.min()} to {value.max()}"
        )


def _racks(problem: PlaceProblem) -> None:
    for name in ("node_zone", "node_pool"):
        pairs = {(int(rack), int(other)) for rack, other in zip(problem.node_rack, getattr(problem, name), strict=True)}
        if len(pairs) != len({rack for rack, _ in pairs}):
            raise ValueError(f"node_rack: a rack has nodes of several {name[5:]}s ({name})")


def _rules(problem: PlaceProblem) -> None:
    for spread in problem.spread:
        _rule("spread", spread.rule, spread.level, spread.groups, len(problem.group_gpus))
        if spread.min_domains < 0:
            raise ValueError(f"spread {spread.rule!r}: min_domains must not be negative, it is {spread.min_domains}")
    for cap in problem.caps:
        _rule("caps", cap.rule, cap.level, cap.groups, len(problem.group_gpus))
        if cap.max_per_domain < 0:
            raise ValueError(f"caps {cap.rule!r}: max_per_domain must not be negative, it is {cap.max_per_domain}")
    for apart in problem.apart:
        for side in (apart.first, apart.second):
            _rule("apart", apart.rule, apart.level, side, len(problem.group_gpus))


def _rule(field: str, rule: str, level: int, members: Sequence[int], groups: int) -> None:
    if level not in range(LEVELS):
        raise ValueError(f"{field} {rule!r}: level must be 0 (node), 1 (rack) or 2 (zone), it is {level}")
    if len(set(members)) != len(members):
        raise ValueError(f"{field} {rule!r}: groups are named twice")
    if any(not 0 <= group < groups for group in members):
        raise ValueError(f"{field} {rule!r}: groups must lie between 0 and {groups - 1}")
