"""One launch description per engine process: what every export target starts from."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from planner.plan_file import EngineSettings, Group, Plan, Replica
from planner.spec import Spec
from profiles.errors import PlanningError
from profiles.models import ModelArchitecture, load_model
from profiles.precision import Quantization

FIRST_PORT = 8000
LABEL_LENGTH = 52
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

Argument = str | int | float | bool


class ExportError(PlanningError):
    """A plan cannot be exported to the target; the message says what stands against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One engine process. `label` is safe as a file, host and Kubernetes name; `arguments` are vLLM's own, in order."""

    label: str
    queue_label: str
    model: str
    source: str
    group: Group
    node: str
    gpu_indices: tuple[int, ...]
    port: int
    arguments: Mapping[str, Argument]
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launches:
    """The processes of a plan, and the models that are known only by measurement and have none."""

    launches: tuple[Launch, ...]
    left_out: tuple[str, ...]


def launches_of(plan: Plan) -> Launches:
    """The launch descriptions of a plan. ExportError when it has no groups or a replica that vLLM would refuse."""
    if not plan.groups:
        raise ExportError("there is no plan to export: it says why there is none.")
    spec = Spec.model_validate(plan.spec, strict=False)
    architectures = {m.name: m.architecture for m in spec.models}
    labels = _labels([g.queue for g in plan.groups])
    found: list[Launch] = []
    left_out: dict[str, None] = {}
    ports: dict[str, int] = {}
    copies: dict[str, int] = {}
    for group in plan.groups:
        if group.kind != "dedicated":
            raise ExportError(f"{group.id} is {group.kind}, which is planned as what-if only: it is not exported.")
        replica = group.replicas[0]
        if replica.engine is None:
            left_out[replica.model] = None
            continue
        node = group.gpu_ids[0].node
        copy = copies.setdefault(group.queue, 0)
        copies[group.queue] += 1
        port = ports.setdefault(node, FIRST_PORT)
        ports[node] += 1
        found.append(_launch(group, replica, replica.engine, (labels[group.queue], copy, port), architectures))
    return Launches(launches=tuple(found), left_out=tuple(left_out))


def _launch(
    group: Group,
    replica: Replica,
    engine: EngineSettings,
    place: tuple[str, int, int],
    architectures: Mapping[str, str | None],
) -> Launch:
    label, copy, port = place
    source = architectures.get(replica.model)
    if source is None:
        raise ExportError(f"{replica.model} has no architecture in the plan's spec.")
    architecture = load_model(source)
    _check(group, replica, engine, architecture)
    return Launch(
        label=f"{label}-{copy}",
        queue_label=label,
        model=replica.model,
        source=architecture.hf_id or source,
        group=group,
        node=group.gpu_ids[0].node,
        gpu_indices=tuple(g.index for g in group.gpu_ids),
        port=port,
        arguments=_arguments(group, replica, engine, architecture),
        weight_bytes=max(replica.memory_bytes - engine.kv_cache_memory_bytes, 0),
    )


def _check(group: Group, replica: Replica, engine: EngineSettings, architecture: ModelArchitecture) -> None:
    """What vLLM's own argument check lets pass and its start then refuses, and what it refuses at once."""
    nodes = {g.node for g in group.gpu_ids}
    if len(nodes) > 1:
        raise ExportError(
            f"{group.id} spans {len(nodes)} nodes: vLLM needs a Ray cluster for that, which is not exported yet."
        )
    if engine.max_num_batched_tokens < engine.max_num_seqs:
        raise ExportError(f"{group.id}: max_num_batched_tokens is below max_num_seqs, which vLLM refuses.")
    if group.pp > architecture.layers:
        raise ExportError(
            f"{group.id}: pp {group.pp} is more than the {architecture.layers} layers of {replica.model}."
        )
    if replica.kv_tokens and replica.kv_tokens < engine.max_model_len and architecture.sliding_window is None:
        raise ExportError(
            f"{group.id}: its KV cache holds {replica.kv_tokens} tokens, one request may have {engine.max_model_len}."
        )


def _arguments(
    group: Group, replica: Replica, engine: EngineSettings, architecture: ModelArchitecture
) -> dict[str, Argument]:
    found: dict[str, Argument] = {
        "served-model-name": replica.model,
        "tensor-parallel-size": group.tp,
        "pipeline-parallel-size": group.pp,
        "max-model-len": engine.max_model_len,
        "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens,
        "gpu-memory-utilization": engine.gpu_memory_utilization,
    }
    if replica.kv_tokens:
        found["kv-cache-memory-bytes"] = engine.kv_cache_memory_bytes
        found["kv-cache-dtype"] = "fp8" if engine.kv_cache_dtype == "fp8" else "auto"
        found["enable-prefix-caching"] = engine.enable_prefix_caching
    if architecture.kind == "embed":
        found["runner"] = "pooling"
    if engine.enable_expert_parallel:
        found["enable-expert-parallel"] = True
    found.update(_precision(replica, architecture))
    return found


def _precision(replica: Replica, architecture: ModelArchitecture) -> dict[str, Argument]:
    """vLLM reads a checkpoint's own format by itself; another one is asked for, or needs a checkpoint of its own."""
    asked = Quantization(replica.quantization)
    if asked in (Quantization.BF16, Quantization.FP16):
        return {"dtype": "bfloat16" if asked is Quantization.BF16 else "float16"}
    if asked is Quantization.FP32:
        return {"dtype": "float32"}
    if asked is architecture.dtype:
        return {}
    if asked is Quantization.FP8:
        return {"quantization": "fp8"}
    raise ExportError(
        f"{replica.model} in {asked}: vLLM cannot make it from the {architecture.dtype} checkpoint; name one that is"
        f" quantised so (a config.json by path) as its architecture."
    )


def _labels(queues: list[str]) -> dict[str, str]:
    """A short safe label for every queue; a hash tells apart what would collide."""
    found: dict[str, str] = {}
    for queue in dict.fromkeys(queues):
        plain = re.sub(r"[^a-z0-9]+", "-", queue.lower()).strip("-") or "queue"
        digest = hashlib.sha256(queue.encode()).hexdigest()[:6]
        if len(plain) > LABEL_LENGTH or plain in found.values() or not LABEL.fullmatch(plain):
            plain = f"{plain[: LABEL_LENGTH - 7].strip('-')}-{digest}"
        found[queue] = plain
    return found
