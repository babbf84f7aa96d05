"""`check --endpoint URL`: a service that runs already, under the traffic of one workload of the plan."""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from planner.check.check_vllm import SETTLE_S, CheckOptions
from planner.check.compare import client_lag, compare, llm_cell, predicted
from planner.check.load import workload_load
from planner.check.result import CheckResult, WorkloadCheck
from planner.check.windows import Window, joined, window_of
from planner.demand import WorkloadDemand
from planner.load.client import closed_loop, open_loop
from planner.load.requests import Sending, Target
from planner.mix_build import Market
from planner.plan_file import Plan, Route
from planner.progress import Progress
from planner.queues import LlmServing, Queue
from planner.replay import planned_market
from planner.runtime.errors import EngineError
from planner.simulate_types import LlmCell, Router
from profiles.errors import PlanningError

KEY_VARIABLES = ("MUXPLAN_API_KEY", "OPENAI_API_KEY")
PATHS = ("/v1/completions", "/v1")
TRIAL_TOKENS = 8
TRIAL_S = 60.0
FAILED_FRACTION = 0.01
"""A service that fails more of its requests than this does not do what the plan says, however fast it is."""


class EndpointError(PlanningError):
    """The endpoint, the key or the workload of a check cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running service: its base URL, the model's name there (default: as in the plan) and the key that it wants.

    `rate_rps`: send that many requests a second of the workload's traffic; default all of it.
    """

    url: str
    workload: str | None = None
    served_model: str | None = None
    rate_rps: float | None = None
    api_key: str | None = field(default=None, repr=False)


def endpoint_url(given: str) -> str:
    """The base URL, without a path of the API behind it. EndpointError unless it is http(s)://HOST[:PORT][/PATH]."""
    try:
        parts = urlsplit(given)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right or not given.isprintable() or " " in given:
        raise EndpointError("--endpoint is to be http://HOST:PORT or https://HOST, with a path where the API has one.")
    if parts.username is not None or parts.query or parts.fragment:
        raise EndpointError(f"--endpoint holds a user, a query or a fragment: a key goes into {KEY_VARIABLES[0]}.")
    path = parts.path.rstrip("/")
    for end in PATHS:
        path = path.removesuffix(end)
    return f"{parts.scheme}://{parts.netloc}{path}"


def key_of(environment: Mapping[str, str]) -> str | None:
    """The key of the first variable that holds one; EndpointError for one that no HTTP header can carry."""
    for name in KEY_VARIABLES:
        key = environment.get(name, "").strip()
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise EndpointError(f"the variable {name} holds a key with characters that no HTTP header can carry.")
        if key:
            return key
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What stands behind the endpoint in the plan: cells, and the routes of the workload to them by name."""

    names: tuple[str, ...]
    routes: tuple[Route, ...]
    cells: tuple[LlmCell, ...]
    vocabulary: int


def check_endpoint(
    plan: Plan, folder: Path, endpoint: Endpoint, options: CheckOptions, progress: Progress
) -> CheckResult:
    """Check a service against one workload of the plan, whose replicas are simulated on the very same requests.

    By default all replicas of the workload stand behind the endpoint; `options.groups` says which. EndpointError for
    input that is wrong, EngineError when a first request shows that the service cannot be checked.
    """
    market = planned_market(plan, folder, progress)
    workload = _workload(plan, market, endpoint.workload)
    served = _served(plan, market, workload, options.groups)
    target = Target(
        url=endpoint.url,
        model=endpoint.served_model or workload.model,
        api_key=endpoint.api_key,
        vocabulary=served.vocabulary,
    )
    fraction = _fraction(plan, workload, endpoint.rate_rps)
    _try(target, options)
    windows = []
    for number in range(options.windows):
        rng = np.random.default_rng([options.seed + number, workload.index])
        load = workload_load(workload, served.routes, served.names, (options.duration_s, fraction), rng)
        if not load.due_s.size:
            raise EndpointError(
                f"no request of {workload.name} falls into {options.duration_s:g} s: --duration longer."
            )
        progress.say(f"window {number + 1} of {options.windows}: {load.due_s.size} requests")
        everywhere = np.zeros(load.due_s.size, dtype=np.int64)
        answers = open_loop([target], load.sent(everywhere), seed=options.seed + number, cancelled=options.cancelled)
        windows.append(window_of(load, answers, options.duration_s, cut=options.cancelled()))
        if options.cancelled():
            break
    notes = tuple(_notes(plan, workload, endpoint))
    return _result(plan, workload, (endpoint, options), (served, windows), notes)


def _workload(plan: Plan, market: Market, name: str | None) -> WorkloadDemand:
    known = {w.name: w for w in market.workloads if w.name in plan.routes}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        told = "say with --workload which one is served" if name is None else f"the plan serves no '{name[:60]}'"
        raise EndpointError(f"{told}: {', '.join(known)}.")
    return known[name]


def _served(plan: Plan, market: Market, workload: WorkloadDemand, groups: Sequence[str]) -> _Served:
    """The named groups as they stand, or all of the workload's replicas, each queue behind the planned router."""
    by_id = {q.id: q for q in market.queues}
    queue_of = {g.id: by_id[g.queue] for g in plan.groups}
    routes = plan.routes[workload.name]
    queues = {route.group: queue_of[route.group] for route in routes}
    vocabulary = min(_vocabulary(workload, queue) for queue in queues.values())
    for name in groups:
        if name not in queues:
            raise EndpointError(f"{workload.name} is not routed to a group '{name[:60]}': {', '.join(queues)}.")
    if groups:
        names = tuple(dict.fromkeys(groups))
        cells = tuple(llm_cell(queues[name]) for name in names)
        return _Served(names=names, routes=routes, cells=cells, vocabulary=vocabulary)
    copies = Counter(group.queue for group in plan.groups)
    names = tuple(dict.fromkeys(queue.id for queue in queues.values()))
    router = Router[workload.router.upper()]
    return _Served(
        names=names,
        routes=_to_queues(routes, {group: queue.id for group, queue in queues.items()}),
        cells=tuple(llm_cell(by_id[name], copies[name], router) for name in names),
        vocabulary=vocabulary,
    )


def _vocabulary(workload: WorkloadDemand, queue: Queue) -> int:
    """Token ids of the queue's model. EndpointError for one without completions."""
    serving = queue.template.serving
    if not isinstance(serving, LlmServing):
        raise EndpointError(f"{workload.name}: its model is known only by measurement and has no completions.")
    if serving.limits.embed:
        raise EndpointError(f"{workload.name}: its model embeds, and only completions can be checked.")
    return serving.architecture.vocab_size


def _to_queues(routes: Sequence[Route], queues: Mapping[str, str]) -> tuple[Route, ...]:
    """The routes with the groups of one queue taken together."""
    together: dict[tuple[str, int | None], float] = {}
    for route in routes:
        key = (queues[route.group], route.input_tokens_max)
        together[key] = together.get(key, 0.0) + route.weight_fraction
    return tuple(
        Route(group=name, weight_fraction=min(1.0, weight), input_tokens_max=limit)
        for (name, limit), weight in together.items()
    )


def _fraction(plan: Plan, workload: WorkloadDemand, rate_rps: float | None) -> float:
    """The share of the workload's requests that is sent."""
    planned = plan.workloads[workload.name].served_rps
    if planned <= 0.0:
        raise EndpointError(f"{workload.name}: the plan serves none of its requests.")
    if rate_rps is not None and rate_rps > planned * (1.0 + 1e-9):
        raise EndpointError(f"--rate {rate_rps:g} is above the {planned:g} requests/s that the plan serves.")
    return min(1.0, (planned if rate_rps is None else rate_rps) / workload.traffic.mean_rate_rps)


def _try(target: Target, options: CheckOptions) -> None:
    """One short request: what stands against a check shows here, before the load is sent. EngineError."""
    one = Sending(
        due_s=np.zeros(1),
        input_tokens=np.full(1, TRIAL_TOKENS),
        output_tokens=np.full(1, TRIAL_TOKENS),
        target=np.zeros(1, dtype=np.int64),
    )
    answers = closed_loop([target], one, 1, seed=options.seed, cancelled=options.cancelled, limit_s=TRIAL_S)
    for what in answers.errors:
        raise EngineError(f"{target.url} does not answer a request to {target.model!r:.100}: {what}.")
    if not answers.done.all():
        raise EngineError(f"cancelled before {target.url} answered its first request.")


def _result(
    plan: Plan,
    workload: WorkloadDemand,
    asked: tuple[Endpoint, CheckOptions],
    done: tuple[_Served, Sequence[Window]],
    notes: tuple[str, ...],
) -> CheckResult:
    (endpoint, options), (served, windows) = asked, done
    whole = joined(windows, options.duration_s + SETTLE_S)
    counts = whole.counts
    guess = predicted(served.cells, whole.load)
    ended = None
    if options.cancelled():
        ended = f"cancelled: {int(counts.sum())} of {counts.size} requests had ended, and only they count."
    workloads = {}
    if counts.any():
        came = whole.latencies.of(counts)
        one = compare(workload, guess.of(counts), came, whole.span_s, options.tolerance_fraction)
        workloads[workload.name] = _with_failures(one, sum(whole.errors.values()))
    lag_ms, lagged = client_lag(whole.lag_s, workloads)
    return CheckResult(
        plan=plan.name,
        spec_digest=plan.spec_digest,
        level="endpoint",
        engine=f"{plan.engine} at {endpoint.url}",
        tolerance_fraction=options.tolerance_fraction,
        seed=options.seed,
        duration_s=options.duration_s,
        windows=len(windows),
        workloads=workloads,
        groups={},
        left_out=tuple(name for name in plan.routes if name != workload.name),
        client_lag_p99_ms=lag_ms,
        client_lagged=lagged,
        errors=whole.errors,
        notes=notes,
        ended=ended,
        held=ended is None and bool(workloads) and all(w.held for w in workloads.values()),
    )


def _with_failures(one: WorkloadCheck, failed: int) -> WorkloadCheck:
    if failed <= FAILED_FRACTION * one.requests or not one.measured.served_rps:
        return one
    why = f"{failed} of {one.requests} requests failed (allowed {FAILED_FRACTION:.0%})"
    return one.model_copy(update={"why": (*one.why, why), "held": False})


def _notes(plan: Plan, workload: WorkloadDemand, endpoint: Endpoint) -> Iterator[str]:
    groups = {route.group for route in plan.routes[workload.name]}
    others = [n for n, routes in plan.routes.items() if n != workload.name and groups & {r.group for r in routes}]
    if others:
        yield f"its replicas also serve {', '.join(others)}: those requests are neither sent nor predicted"
    if workload.cached_fraction > 0.0:
        yield f"the plan counts on {workload.cached_fraction:.0%} cached tokens; the prompts sent share no prefix"
    if endpoint.api_key and _in_the_open(endpoint.url):
        yield "the key was sent to another machine without TLS"


def _in_the_open(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and not local
