"""Where a workload's requests go, as data for the gateway in front of the replicas."""

from collections.abc import Mapping
from typing import Any

from planner.export.launch import Launch, Launches
from planner.plan_file import Route

DIGITS = 6


def by_replica(launched: Launches) -> dict[str, Any]:
    """Workload → router and routes to single replicas, by label, node and port; where phases stand apart, to the
    prefill and the decode replicas that a proxy joins.
    """
    places: dict[str, list[Launch]] = {}
    for one in launched.launches:
        places.setdefault(one.route_group, []).append(one)
    return {
        workload: _entry(launched, workload, [{**_places(places, route), **_weight(route)} for route in routes])
        for workload, routes in launched.routes.items()
    }


def by_service(launched: Launches, suffix: str = "") -> dict[str, Any]:
    """Workload → router and routes to services; the weight of a service is that of all its replicas together.

    A service is called by its queue's label and the suffix that the target appends.
    """
    services = {one.route_group: one.queue_label + suffix for one in launched.launches}
    found: dict[str, Any] = {}
    for workload, routes in launched.routes.items():
        weights: dict[tuple[str | None, int | None], float] = {}
        for route in routes:
            key = (services.get(route.group), route.input_tokens_max)
            weights[key] = weights.get(key, 0.0) + route.weight_fraction
        entries = [
            {"service": service, "weight_fraction": round(weight, DIGITS), "input_tokens_max": tokens}
            for (service, tokens), weight in weights.items()
        ]
        found[workload] = _entry(launched, workload, entries)
    return found


def _entry(launched: Launches, workload: str, routes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"router": launched.routers.get(workload), "routes": routes}


def _places(places: Mapping[str, list[Launch]], route: Route) -> dict[str, Any]:
    """Null for a replica that is not exported."""
    some = places.get(route.group)
    if some is None:
        return {"replica": None, "node": None, "port": None}
    if some[0].replica.role == "both":
        return _place(some[0])
    return {role: [_place(one) for one in some if one.replica.role == role] for role in ("prefill", "decode")}


def _place(one: Launch) -> dict[str, Any]:
    return {"replica": one.label, "node": one.node, "port": one.port}


def _weight(route: Route) -> dict[str, Any]:
    return {"weight_fraction": round(route.weight_fraction, DIGITS), "input_tokens_max": route.input_tokens_max}
