"""One launch description per engine process: what every export target starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from planner.export import vllm_arguments
from planner.export.labels import labels_of
from planner.export.vllm_arguments import Argument
from planner.plan_file import Group, Plan, Replica, Route
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
    node: str
    gpu_indices: tuple[int, ...]
    port: int
    arguments: Mapping[str, Argument]
    device: Literal["gpu", "cpu"]
    """Whether `gpu_indices` are GPUs or processor cores."""
    checkpoint_bytes: int
    """Bytes that are fetched and loaded at a start."""


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


def launches_of(plan: Plan, folder: Path = Path()) -> Launches:
    """The launch descriptions of a plan; files that its spec names are relative to `folder`, the plan's own.

    ExportError when it has no groups, is for another engine, or has a replica that vLLM would refuse.
    """
    if not plan.groups:
        raise ExportError("there is no plan to export: it says why there is none.")
    spec = spec_from_plan(plan.spec, folder).spec
    engine = load_engine(plan.engine)
    if engine.program != ENGINE:
        raise ExportError(f"the plan is for the engine {engine.name}: only {ENGINE} is exported.")
    for group in plan.groups:
        _check_kind(group)
    places = _places(plan)
    models = {m.name: m for m in spec.models}
    pools: dict[str, tuple[str, ...]] = {}
    for group in plan.groups:
        known = pools.get(group.gpu, ())
        pools[group.gpu] = known if group.pool in known else (*known, group.pool)
    return Launches(
        name=plan.name,
        launches=tuple(
            _launch(g, engine, places[g.id], _loaded(models.get(g.replicas[0].model), g.replicas[0], folder))
            for g in plan.groups
            if g.replicas[0].engine is not None
        ),
        left_out=tuple(dict.fromkeys(g.replicas[0].model for g in plan.groups if g.replicas[0].engine is None)),
        routes=plan.routes,
        routers={w.name: w.router for w in spec.workloads},
        engine_version=engine.version,
        pools_of_gpu=pools,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a process stands among the others."""

    queue_label: str
    copy: int
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A model's architecture, and what vLLM loads it from."""

    architecture: ModelArchitecture
    source: str
    local: bool


def _check_kind(group: Group) -> None:
    if group.kind != "dedicated" or len(group.replicas) != 1:
        raise ExportError(f"{group.id} is {group.kind}, which is planned as what-if only: it is not exported.")


def _places(plan: Plan) -> dict[str, _Place]:
    """Labels, copy numbers and ports of the groups that run an engine; a node's ports go up from FIRST_PORT."""
    running = [g for g in plan.groups if g.replicas[0].engine is not None]
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


def _loaded(model: Model | None, replica: Replica, folder: Path) -> _Loaded:
    if model is None or model.architecture is None:
        raise ExportError(f"{replica.model} has no architecture in the plan's spec.")
    named = model.architecture
    if "/" not in named and "\\" not in named and not named.endswith(".json"):
        architecture = load_model(named)
        return _Loaded(architecture=architecture, source=architecture.hf_id or named, local=False)
    path = folder / named
    architecture = load_model(str(path.resolve()))
    return _Loaded(architecture=architecture, source=str(path.resolve().parent), local=True)


def _launch(group: Group, engine: Engine, place: _Place, loaded: _Loaded) -> Launch:
    replica, architecture = group.replicas[0], loaded.architecture
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
