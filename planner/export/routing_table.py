"""Where a workload's requests go, as data for the gateway in front of the replicas."""

from collections.abc import Mapping
from typing import Any

from planner.export.launch import Launches
from planner.plan_file import Route

DIGITS = 6


def by_replica(launched: Launches) -> dict[str, Any]:
    """Workload → router and routes to single replicas, by label, node and port."""
    place = {one.group.id: {"replica": one.label, "node": one.node, "port": one.port} for one in launched.launches}
    return {
        workload: _entry(launched, workload, [{**_place(place, route), **_weight(route)} for route in routes])
        for workload, routes in launched.routes.items()
    }


def by_service(launched: Launches, suffix: str = "") -> dict[str, Any]:
    """Workload → router and routes to services; the weight of a service is that of all its replicas together.

    A service is called by its queue's label and the suffix that the target appends.
    """
    services = {one.group.id: one.queue_label + suffix for one in launched.launches}
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


def _place(place: Mapping[str, dict[str, Any]], route: Route) -> dict[str, Any]:
    """Null for a replica that is not exported."""
    return place.get(route.group, {"replica": None, "node": None, "port": None})


def _weight(route: Route) -> dict[str, Any]:
    return {"weight_fraction": round(route.weight_fraction, DIGITS), "input_tokens_max": route.input_tokens_max}
