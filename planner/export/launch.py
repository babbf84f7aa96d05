"""One launch description per engine process, that is per replica: what every export target starts from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.export import vllm_arguments
from planner.export.labels import labels_of
from planner.export.sharing import share_refusal
from planner.export.vllm_arguments import Argument
from planner.group_faults import faults
from planner.plan_file import Group, Plan, Replica, Route
from planner.replicas import member_routes, members
from planner.spec import Model
from planner.spec_load import spec_from_plan
from profiles.engines import Engine, load_engine
from profiles.errors import PlanningError
from profiles.layout import Layout
from profiles.memory import weight_bytes_per_rank
from profiles.models import ModelArchitecture, load_model
from profiles.precision import KvDtype

FIRST_PORT = 8000
ENGINE = "vllm"
LOAD_BYTES_PER_S = 200_000_000
"""A slow download: what the start-up budget is reckoned with."""
LEAST_START_S = 300
ROUNDING = 1e-6


class ExportError(PlanningError):
    """A plan cannot be exported to the target; the message says what stands against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One engine process. `label` is safe as a file, host and Kubernetes name; `arguments` are vLLM's own, in order."""

    label: str
    queue_label: str
    model: str
    source: str
    """What vLLM loads: a Hugging Face name, or the folder of a local config.json."""
    local: bool
    group: Group
    """The replica as a group of its own, with its own GPUs."""
    whole: Group
    """The plan's group that it belongs to; the same one where that has no other replica."""
    node: str
    gpu_indices: tuple[int, ...]
    port: int
    arguments: Mapping[str, Argument]
    device: Literal["gpu", "cpu"]
    """Whether `gpu_indices` are GPUs or processor cores."""
    checkpoint_bytes: int
    """Bytes that are fetched and loaded at a start."""

    @property
    def replica(self) -> Replica:
        """What the process runs, as the plan has it."""
        return self.group.replicas[0]

    @property
    def route_group(self) -> str:
        """The group that the plan's routes name: the whole one where a proxy stands in front of its phases."""
        return self.group.id if self.replica.role == "both" else self.whole.id

    @property
    def mps_percent(self) -> int | None:
        """The share of its GPU that MPS gives it, rounded down as by NVIDIA's device plugin; None without MPS."""
        replica = self.replica
        if self.device == "cpu" or replica.sm_fraction == 1.0 or replica.mig_profile is not None:
            return None
        return max(1, int(replica.sm_fraction * 100 + ROUNDING))

    @property
    def start_s(self) -> int:
        """Seconds that a start may take, a slow download included."""
        return LEAST_START_S + self.checkpoint_bytes // LOAD_BYTES_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """The processes of a plan; the models that are known only by measurement and have none; who sends what where."""

    name: str
    launches: tuple[Launch, ...]
    left_out: tuple[str, ...]
    routes: Mapping[str, tuple[Route, ...]]
    routers: Mapping[str, str]
    engine_version: str
    pools_of_gpu: Mapping[str, tuple[str, ...]]
    """GPU → pools of the plan that have it."""
    on_gpu: Mapping[tuple[str, int], int]
    """(node, index) → processes on that GPU."""
    in_flight: Mapping[str, float]
    """Queue label → requests that one of its replicas holds on average (Little's law); without a latency, no entry."""


def launches_of(plan: Plan, folder: Path = Path()) -> Launches:
    """The launch descriptions of a plan; files that its spec names are relative to `folder`, the plan's own.

    ExportError when it has no groups, is for another engine, or has a replica that vLLM would refuse.
    """
    if not plan.groups:
        raise ExportError("there is no plan to export: it says why there is none.")
    spec = spec_from_plan(plan.spec, folder).spec
    engine = load_engine(spec.engine, folder)
    if engine.program != ENGINE:
        raise ExportError(f"the plan is for the engine {engine.name}: only {ENGINE} is exported.")
    _check_groups(plan)
    if engine.device == "gpu":
        reason = share_refusal(plan.groups, {pool.name: pool for pool in spec.cluster.pools}, folder)
        if reason is not None:
            raise ExportError(f"{reason}.")
    running = [(member, whole) for whole in plan.groups for member in members(whole)]
    places = _places([member for member, _ in running])
    models = {m.name: m for m in spec.models}
    pools: dict[str, tuple[str, ...]] = {}
    for group in plan.groups:
        known = pools.get(group.gpu, ())
        pools[group.gpu] = known if group.pool in known else (*known, group.pool)
    routes = member_routes(plan)
    launches = tuple(
        _launch((member, whole), engine, places[member.id], _loaded(models, member.replicas[0], folder))
        for member, whole in running
        if member.replicas[0].engine is not None
    )
    return Launches(
        name=plan.name,
        launches=launches,
        left_out=tuple(dict.fromkeys(g.replicas[0].model for g, _ in running if g.replicas[0].engine is None)),
        routes=routes,
        routers={w.name: w.router for w in spec.workloads},
        engine_version=engine.version,
        pools_of_gpu=pools,
        on_gpu=Counter((one.node, index) for one in launches for index in one.gpu_indices),
        in_flight=_in_flight(plan, routes, places),
    )


def needs_no_local_files(one: Launch, reader: str) -> None:
    """ExportError for a model that is read from a folder of this machine, which the reader does not see."""
    if one.local:
        raise ExportError(
            f"{one.model} is read from a folder of this machine, which {reader} does not see: export to vllm instead."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a process stands among the others."""

    queue_label: str
    copy: int
    port: int


def _in_flight(
    plan: Plan, routes_of: Mapping[str, tuple[Route, ...]], places: Mapping[str, _Place]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for workload, routes in routes_of.items():
        result = plan.workloads.get(workload)
        if result is None or result.e2e_ms is None:
            continue
        held = result.served_rps * result.e2e_ms.mean / 1000
        for route in routes:
            if route.group in places:
                label = places[route.group].queue_label
                found[label] = found.get(label, 0.0) + held * route.weight_fraction
    copies = Counter(place.queue_label for place in places.values())
    return {label: held / copies[label] for label, held in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A model's architecture, and what vLLM loads it from."""

    architecture: ModelArchitecture
    source: str
    local: bool


def _check_groups(plan: Plan) -> None:
    for group in plan.groups:
        if group.kind == "multiplexed":
            raise ExportError(f"{group.id} is {group.kind}, which is planned as what-if only: it is not exported.")
        fault = next(faults(group), None)
        if fault is not None:
            raise ExportError(f"{fault}.")


def _places(groups: Sequence[Group]) -> dict[str, _Place]:
    """Labels, copy numbers and ports of the groups that run an engine; a node's ports go up from FIRST_PORT."""
    running = [g for g in groups if g.replicas[0].engine is not None]
    labels = labels_of(g.queue for g in running)
    copies: dict[str, int] = {}
    ports: dict[str, int] = {}
    found: dict[str, _Place] = {}
    for group in running:
        node = group.gpu_ids[0].node if group.gpu_ids else ""
        copy, port = copies.get(group.queue, 0), ports.get(node, FIRST_PORT)
        copies[group.queue], ports[node] = copy + 1, port + 1
        found[group.id] = _Place(queue_label=labels[group.queue], copy=copy, port=port)
    if len(found) != len(running):
        raise ExportError("two groups of the plan have the same id.")
    return found


def _loaded(models: Mapping[str, Model], replica: Replica, folder: Path) -> _Loaded:
    model = models.get(replica.model)
    if model is None or model.architecture is None:
        raise ExportError(f"{replica.model} has no architecture in the plan's spec.")
    named = model.architecture
    if "/" not in named and "\\" not in named and not named.endswith(".json"):
        architecture = load_model(named)
        return _Loaded(architecture=architecture, source=architecture.hf_id or named, local=False)
    path = folder / named
    architecture = load_model(str(path.resolve()))
    return _Loaded(architecture=architecture, source=str(path.resolve().parent), local=True)


def _launch(groups: tuple[Group, Group], engine: Engine, place: _Place, loaded: _Loaded) -> Launch:
    (group, whole), architecture = groups, loaded.architecture
    replica = group.replicas[0]
    settings = replica.engine
    assert settings is not None
    reason = vllm_arguments.refusal(group, replica, settings, architecture)
    if reason is not None:
        raise ExportError(f"{group.id} ({replica.model}): {reason}.")
    return Launch(
        label=f"{place.queue_label}-{place.copy}",
        queue_label=place.queue_label,
        model=replica.model,
        source=loaded.source,
        local=loaded.local,
        group=group,
        whole=whole,
        node=group.gpu_ids[0].node,
        gpu_indices=tuple(g.index for g in group.gpu_ids),
        port=place.port,
        arguments={
            **vllm_arguments.arguments(group, replica, settings, architecture, engine.device),
            **engine.launch_arguments,
        },
        device=engine.device,
        checkpoint_bytes=_checkpoint_bytes(architecture),
    )


def _checkpoint_bytes(architecture: ModelArchitecture) -> int:
    """Weights as they are stored, whatever they are loaded as."""
    stored = Layout(quantization=architecture.dtype, kv_dtype=KvDtype.BF16, tp=1, pp=1, ep=1)
    return weight_bytes_per_rank(architecture, stored)
