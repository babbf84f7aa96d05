"""vLLM's settings of one replica, and what stands against them.

vLLM's argument check passes some settings that its start then refuses (too little KV cache, more stages than layers):
they are looked at here. Flags and checks are those of vLLM 0.32 (vllm/engine/arg_utils.py, vllm/config/scheduler.py).
"""

import json
from collections.abc import Iterator
from typing import Literal

from planner.plan_file import EngineSettings, Group, Replica
from profiles.models import ModelArchitecture
from profiles.precision import Quantization, loads_as

Argument = str | int | float | bool

PLAIN_DTYPES = {Quantization.BF16: "bfloat16", Quantization.FP16: "float16", Quantization.FP32: "float32"}
"""Formats that are a dtype to vLLM; every other one is a quantisation."""
KV_CONNECTOR = "NixlConnector"
KV_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
"""vLLM, NixlConnector usage guide (docs.vllm.ai/en/stable/features/nixl_connector_usage): the proxy in front decides
who does what, and kv_both is deprecated (vllm/distributed/kv_transfer/kv_connector/v1/nixl/connector.py)."""


def refusal(group: Group, replica: Replica, engine: EngineSettings, model: ModelArchitecture) -> str | None:
    """Why vLLM cannot run the replica as planned; None when nothing stands against it."""
    return next((reason for reason in _refusals(group, replica, engine, model) if reason), None)


def arguments(
    group: Group,
    replica: Replica,
    engine: EngineSettings,
    model: ModelArchitecture,
    device: Literal["gpu", "cpu"] = "gpu",
) -> dict[str, Argument]:
    """The flags of a replica without their dashes, in a fixed order; a switch that is off is False."""
    found: dict[str, Argument] = {
        "served-model-name": replica.model,
        "tensor-parallel-size": group.tp,
        "pipeline-parallel-size": group.pp,
        "max-model-len": engine.max_model_len,
        "max-num-seqs": engine.max_num_seqs,
        "max-num-batched-tokens": engine.max_num_batched_tokens,
    }
    if device == "gpu":
        found["gpu-memory-utilization"] = engine.gpu_memory_utilization
    if replica.kv_tokens:
        found["kv-cache-memory-bytes"] = engine.kv_cache_memory_bytes
        found["kv-cache-dtype"] = "fp8" if engine.kv_cache_dtype == "fp8" else "auto"
        found["enable-prefix-caching"] = engine.enable_prefix_caching
    if replica.role != "both":
        found["kv-transfer-config"] = json.dumps({"kv_connector": KV_CONNECTOR, "kv_role": KV_ROLES[replica.role]})
    if model.kind == "embed":
        found["runner"] = "pooling"
    if engine.enable_expert_parallel:
        found["enable-expert-parallel"] = True
    asked = Quantization(replica.quantization)
    if asked in PLAIN_DTYPES:
        found["dtype"] = PLAIN_DTYPES[asked]
    elif asked is not model.dtype:
        found["quantization"] = "fp8"
    return found


def _refusals(group: Group, replica: Replica, engine: EngineSettings, model: ModelArchitecture) -> Iterator[str | None]:
    yield _role(replica, model)
    yield _places(group)
    yield _limits(engine, model)
    yield _layout(group, model)
    yield _expert_parallel(group, engine)
    yield _memory(replica, engine, model)
    yield _precision(replica, model)


def _role(replica: Replica, model: ModelArchitecture) -> str | None:
    if replica.role != "both" and not replica.kv_tokens:
        return f"{model.name} keeps no KV cache that its {replica.role} could hand on"
    return None


def _places(group: Group) -> str | None:
    nodes = {gpu.node for gpu in group.gpu_ids}
    if len(nodes) > 1:
        return f"it spans {len(nodes)} nodes, and vLLM needs a Ray cluster for that, which is not exported yet"
    if len(group.gpu_ids) != group.tp * group.pp:
        return f"tp {group.tp} × pp {group.pp} needs {group.tp * group.pp} GPUs, it has {len(group.gpu_ids)}"
    return None


def _limits(engine: EngineSettings, model: ModelArchitecture) -> str | None:
    if engine.max_model_len > model.max_position_embeddings:
        return f"max_model_len {engine.max_model_len} is above the {model.max_position_embeddings} of {model.name}"
    if model.encoder_only and engine.max_num_batched_tokens < engine.max_model_len:
        return (
            f"max_num_batched_tokens {engine.max_num_batched_tokens} is below max_model_len {engine.max_model_len},"
            " and vLLM never cuts the prompts of an encoder"
        )
    if engine.max_num_batched_tokens < engine.max_num_seqs:
        return (
            f"max_num_batched_tokens {engine.max_num_batched_tokens} is below max_num_seqs {engine.max_num_seqs},"
            " which vLLM refuses"
        )
    return None


def _layout(group: Group, model: ModelArchitecture) -> str | None:
    if model.heads % group.tp:
        return f"the {model.heads} attention heads of {model.name} cannot be split over tp {group.tp}"
    if group.pp > model.layers:
        return f"pp {group.pp} is more than the {model.layers} layers of {model.name}"
    return None


def _expert_parallel(group: Group, engine: EngineSettings) -> str | None:
    """vLLM splits experts over all tensor-parallel ranks or over none."""
    wanted = group.tp if engine.enable_expert_parallel else 1
    return None if group.ep == wanted else f"vLLM runs ep {wanted} at tp {group.tp}, the plan says ep {group.ep}"


def _memory(replica: Replica, engine: EngineSettings, model: ModelArchitecture) -> str | None:
    if not replica.kv_tokens:
        return None if model.encoder_only else "it has no KV cache"
    if replica.kv_tokens < engine.max_model_len and model.sliding_window is None:
        return f"its KV cache holds {replica.kv_tokens} tokens, one request may have {engine.max_model_len}"
    return None


def _precision(replica: Replica, model: ModelArchitecture) -> str | None:
    """vLLM reads a checkpoint's own format, loads 16 bit as another plain type, and makes fp8 from it; nothing else."""
    try:
        asked = Quantization(replica.quantization)
    except ValueError:
        return f"vLLM has no weights in '{replica.quantization[:40]}'"
    if loads_as(model.dtype, asked):
        return None
    return (
        f"vLLM cannot make {asked} from the {model.dtype} checkpoint of {model.name}; give as architecture the"
        " config.json of a checkpoint that is stored so"
    )
