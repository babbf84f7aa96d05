"""What a relaxation says, done to a spec."""

import re
from copy import deepcopy
from typing import Any

from planner.plan_file import Relaxation

Dict = dict[str, Any]
FIGURES = {
    "budget": "usd_per_hour",
    "max_gpus": "count",
    "min_replicas": "count",
    "max_replicas": "count",
    "spread": "min_domains",
    "survive": "fraction",
}


def relaxed(data: Dict, one: Relaxation) -> Dict:
    """A copy of the spec with the figure of the relaxation's field as it is said to be needed; without the rule or
    the workload where it says no figure.
    """
    changed = deepcopy(data)
    constraint = re.fullmatch(r"constraints\[(\d+)\](?:\.\w+)?", one.field)
    pool = re.fullmatch(r"cluster\.pools\.(.+)\.(nodes|max_nodes)", one.field)
    limit = re.fullmatch(r"workloads\.(.+)\.(slo|traffic)\.(\w+)", one.field)
    if constraint and one.needed is None:
        del changed["constraints"][int(constraint[1])]
    elif constraint:
        rule = changed["constraints"][int(constraint[1])]
        rule[FIGURES[rule["kind"]]] = _number(one.needed)
    elif pool:
        _named(changed["cluster"]["pools"], pool[1])[pool[2]] = _number(one.needed)
    elif limit:
        _named(changed["workloads"], limit[1])[limit[2]][limit[3]] = _number(one.needed)
    else:
        left_out = one.field.removeprefix("workloads.")
        changed["workloads"] = [w for w in changed["workloads"] if w["name"] != left_out]
        assert len(changed["workloads"]) == len(data["workloads"]) - 1, one
    return changed


def _named(things: list[Dict], name: str) -> Dict:
    return next(thing for thing in things if thing["name"] == name)


def _number(value: float | str | None) -> float | int:
    number = float(str(value))
    return int(number) if number.is_integer() else number
