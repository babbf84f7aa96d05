"""Ray Serve LLM: one Serve config with an application for every queue."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from planner.export import pods, vllm
from planner.export.launch import ExportError, Launch, Launches
from planner.export.routing_table import by_service
from planner.export.yaml_text import one_text

ACCELERATORS = {
    "a100-sxm-40gb": "A100-40G",
    "a100-sxm-80gb": "A100-80G",
    "h100-sxm-80gb": "H100",
    "h100-pcie-80gb": "H100",
    "h200-sxm-141gb": "H200",
    "b200-sxm-180gb": "B200",
    "l4-24gb": "L4",
    "l40s-48gb": "L40S",
    "a10g-24gb": "A10G",
    "rtx-pro-6000-96gb": "RTX-PRO-6000",
    "v100-sxm-16gb": "V100",
    "v100-sxm-32gb": "V100",
    "mi300x-192gb": "AMD-Instinct-MI300X-OAM",
}
"""ray.util.accelerators: the node resource accelerator_type:NAME."""
POOL_SHARE = 0.001
HEADER = """\
# serve deploy serve.yaml
# A queue answers under http://HOST:8000/QUEUE/v1; routes.json says which share of every workload goes to which queue.
# Planned for vLLM {version}; Ray's nodes bring their own (Ray 2.60 asks for vLLM 0.29), whose defaults may differ.
"""
LOCAL_NOTE = """\
# Every node has to have these folders, at the same place: {folders}.
"""
CPU_NOTE = """\
# Ray counts cores and binds nothing to them: engines may disturb each other more than planned.
"""
POOL_NOTE = """\
# Pools {pools} have GPUs of one Ray type: start the nodes of each with ray start --resources='{{"muxplan-POOL": 1}}'.
"""


def files(launched: Launches) -> dict[str, str]:
    """`serve.yaml` and `routes.json`; ExportError for a GPU that Ray has no name for, and for cores to be bound."""
    shared = _shared_pools(launched)
    queues = pods.queues_of(launched).items()
    config = {
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [_application(label, copies, shared) for label, copies in queues],
    }
    return {
        "serve.yaml": _header(launched, shared) + one_text(config),
        "routes.json": json.dumps(by_service(launched), indent=2) + "\n",
    }


def _header(launched: Launches, shared: Sequence[str]) -> str:
    found = HEADER.format(version=launched.engine_version)
    folders = sorted({json.dumps(one.source) for one in launched.launches if one.local})
    if folders:
        found += LOCAL_NOTE.format(folders=", ".join(folders))
    if any(one.device == "cpu" for one in launched.launches):
        found += CPU_NOTE
    return found + (POOL_NOTE.format(pools=", ".join(json.dumps(pool) for pool in shared)) if shared else "")


def _shared_pools(launched: Launches) -> list[str]:
    """Pools whose GPUs Ray cannot tell from those of another pool."""
    by_type: dict[str, list[str]] = {}
    cores = {one.group.gpu for one in launched.launches if one.device == "cpu"}
    for gpu, pools in launched.pools_of_gpu.items():
        if gpu in cores:
            continue
        by_type.setdefault(_accelerator(gpu), []).extend(pools)
    return sorted(pool for pools in by_type.values() if len(pools) > 1 for pool in pools)


def _accelerator(gpu: str) -> str:
    if gpu not in ACCELERATORS:
        raise ExportError(f"{gpu}: Ray has no accelerator type for it; export to vllm instead.")
    return ACCELERATORS[gpu]


def _application(label: str, copies: Sequence[Launch], shared: Sequence[str]) -> dict[str, Any]:
    return {
        "name": label,
        "route_prefix": f"/{label}",
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {"llm_configs": [_llm_config(copies, shared)], **(_ingress() if copies[0].device == "cpu" else {})},
    }


def _llm_config(copies: Sequence[Launch], shared: Sequence[str]) -> dict[str, Any]:
    first = copies[0]
    arguments = vllm.engine_arguments(first)
    # The names are those of model_loading_config.
    kept = {name: value for name, value in arguments.items() if name not in ("model", "served_model_name")}
    return {
        "model_loading_config": {"model_id": first.model, "model_source": first.source},
        **(_cores(first) if first.device == "cpu" else _gpus(first, shared)),
        "deployment_config": {
            "num_replicas": len(copies),
            "max_ongoing_requests": first.arguments["max-num-seqs"],
            "health_check_timeout_s": 60,
            **(NO_CORES if first.device == "cpu" else {}),
        },
        "engine_kwargs": kept,
    }


def _gpus(one: Launch, shared: Sequence[str]) -> dict[str, Any]:
    bundle: Mapping[str, float] = {"CPU": 1, "GPU": 1}
    if one.group.pool in shared:
        bundle = {**bundle, f"muxplan-{one.group.pool}": POOL_SHARE}
    return {
        "accelerator_type": _accelerator(one.group.gpu),
        "placement_group_config": {"bundles": [dict(bundle) for _ in one.gpu_indices], "strategy": "STRICT_PACK"},
    }


NO_CORES = {"ray_actor_options": {"num_cpus": 0}}
"""The plan gives every core to an engine: Ray's own processes run beside them, as vLLM's server does."""


def _ingress() -> dict[str, Any]:
    return {"ingress_deployment_config": {"num_replicas": 1, **NO_CORES}}


def _cores(one: Launch) -> dict[str, Any]:
    if len(one.gpu_indices) > 1:
        raise ExportError(
            f"{one.model} runs on {len(one.gpu_indices)} cores, each of its ranks bound to one of them, and Ray binds"
            " no replica to cores: export to vllm instead."
        )
    return {
        "accelerator_config": {"kind": "cpu"},
        "placement_group_config": {"bundles": [{"CPU": 1}], "strategy": "STRICT_PACK"},
        "runtime_env": {"env_vars": vllm.environment(one)},
    }
