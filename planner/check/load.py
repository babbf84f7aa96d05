"""The requests of a check: the plan's own traffic, sent where the plan's routes send it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.demand import WorkloadDemand
from planner.load.requests import Sending
from planner.mix_build import Market
from planner.plan_file import Plan, Route
from planner.simulate_types import Requests

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLoad:
    """Requests in order of arrival, shape (requests,); `group` and `workload` are indices into the given lists."""

    due_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    group: IntArray
    workload: IntArray

    def of(self, mine: "NDArray[np.bool_]") -> "CheckLoad":
        """The requests where `mine` is true."""
        return CheckLoad(
            due_s=self.due_s[mine],
            input_tokens=self.input_tokens[mine],
            output_tokens=self.output_tokens[mine],
            group=self.group[mine],
            workload=self.workload[mine],
        )

    def simulated(self) -> Requests:
        """The requests as the simulator takes them; no prefix is cached."""
        return Requests(
            arrival_s=self.due_s,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cached_tokens=np.zeros_like(self.input_tokens),
        )

    def sent(self, target: IntArray) -> Sending:
        """The requests as the load client takes them, each to its target."""
        return Sending(
            due_s=self.due_s, input_tokens=self.input_tokens, output_tokens=self.output_tokens, target=target
        )


def plan_load(plan: Plan, market: Market, groups: Sequence[str], duration_s: float, seed: int) -> CheckLoad:
    """One draw of every workload, of which the requests are kept that the routes send to `groups`."""
    parts = []
    for workload in market.workloads:
        routes = plan.routes.get(workload.name, ())
        if any(r.group in groups for r in routes):
            rng = np.random.default_rng([seed, workload.index])
            share = plan.workloads[workload.name].served_rps / workload.traffic.mean_rate_rps
            parts.append(workload_load(workload, routes, groups, (duration_s, min(1.0, share)), rng))
    if not parts:
        return CheckLoad(**{name: np.empty(0, dtype=kind) for name, kind in COLUMNS.items()})
    order = np.argsort(np.concatenate([p.due_s for p in parts]), kind="stable")
    return CheckLoad(**{name: np.concatenate([getattr(p, name) for p in parts])[order] for name in COLUMNS})


COLUMNS = {
    "due_s": np.float64,
    "input_tokens": np.int64,
    "output_tokens": np.int64,
    "group": np.int64,
    "workload": np.int64,
}


def workload_load(
    workload: WorkloadDemand,
    routes: Sequence[Route],
    groups: Sequence[str],
    span: tuple[float, float],
    rng: np.random.Generator,
) -> CheckLoad:
    """One draw of a workload's own traffic; `span`: its seconds, and the fraction of its requests that is sent.

    Requests go by the routes' weights and limits; those to `groups` are kept, `group` is the index there.
    """
    duration_s, served_fraction = span
    draw = workload.traffic.draw(duration_s, rng)
    index = {name: position for position, name in enumerate(groups)}
    went = np.full(draw.arrival_s.size, -1, dtype=np.int64)
    pick = rng.random(draw.arrival_s.size)
    # Routes with a limit take the prompts up to it, beginning with the shortest.
    limits = sorted({r.input_tokens_max for r in routes}, key=lambda limit: np.inf if limit is None else limit)
    low = 0.0
    for limit in limits:
        high = np.inf if limit is None else float(limit)
        mine = [r for r in routes if r.input_tokens_max == limit]
        inside = (draw.input_tokens > low) & (draw.input_tokens <= high)
        edges = np.cumsum([r.weight_fraction for r in mine])
        chosen = np.searchsorted(edges / edges[-1], pick, side="right").clip(max=len(mine) - 1)
        targets = np.array([index.get(r.group, -1) for r in mine])
        went = np.where(inside, targets[chosen], went)
        low = high
    kept = (went >= 0) & (rng.random(went.size) < served_fraction)
    return CheckLoad(
        due_s=draw.arrival_s[kept],
        input_tokens=draw.input_tokens[kept],
        output_tokens=draw.output_tokens[kept],
        group=went[kept],
        workload=np.full(int(kept.sum()), workload.index, dtype=np.int64),
    )
