"""Triton: a model repository for every replica, with vLLM as the backend, and the command lines that serve them."""

import json

from planner.export import vllm
from planner.export.labels import labels_of
from planner.export.launch import Launch, Launches

GRPC_OFFSET, METRICS_OFFSET = 1000, 2000
CONFIG = """\
# Started by launch.sh in an image tritonserver:YY.MM-vllm-python-py3 with the vLLM that was planned for.
name: "{name}"
backend: "vllm"
max_batch_size: 0
model_transaction_policy {{ decoupled: true }}
# One engine on the GPUs that CUDA_VISIBLE_DEVICES shows; vLLM forms the batches.
instance_group [ {{ count: 1 kind: KIND_MODEL }} ]
"""


def files(launched: Launches) -> dict[str, str]:
    """`<replica>/<model>/config.pbtxt` and `<replica>/<model>/1/model.json` each, and the files that start them."""
    names = labels_of(one.model for one in launched.launches)
    found = {}
    for one in launched.launches:
        folder = f"{one.label}/{names[one.model]}"
        found[f"{folder}/config.pbtxt"] = CONFIG.format(name=names[one.model])
        found[f"{folder}/1/model.json"] = json.dumps(vllm.engine_arguments(one), indent=2) + "\n"
    return found | vllm.launch_files(launched, _command)


def _command(one: Launch) -> list[str]:
    ports = {"http": one.port, "grpc": one.port + GRPC_OFFSET, "metrics": one.port + METRICS_OFFSET}
    return ["tritonserver", f"--model-repository={one.label}", *(f"--{name}-port={p}" for name, p in ports.items())]
