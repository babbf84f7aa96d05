"""Varied plans over all targets, each read by the target's own parser where one can be installed.

`make parsers` builds the environment with the parsers (MUXPLAN_PARSERS_PYTHON names the Python of another one); tests
without it are skipped and say so. vLLM's own checks run where MUXPLAN_ENGINE_PYTHON names a Python with vLLM.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.export.engine_check import engine_faults, settings_in
from planner.export.launch import ExportError, launches_of
from planner.export.targets import TARGETS, exported_files
from planner.export.validate import manifest_faults
from profiles.models import load_model
from tests.engine_configs import write_config
from tests.planned import FOLDER, PLANS, planned

REFUSED = {
    ("two_pools", "dynamo"): "NVIDIA",
    ("colocated", "ray-serve"): "Ray counts parts of a GPU but keeps none to its part",
    **{("mig", one): "called by its UUID" for one in ("vllm", "compose", "ray-serve", "triton")},
    **{("disaggregated", one): "exported to vllm and dynamo only" for one in set(TARGETS) - {"vllm", "dynamo"}},
}
MODELS = (
    *("bge-m3", "llama-3.1-8b", "llama-3.2-1b", "llama-3.3-70b", "qwen3-0.6b"),
    *("qwen3-14b", "qwen3-30b-a3b", "qwen3-32b", "qwen3-8b"),
)
BUILT = Path(__file__).parents[2] / ".venv-parsers" / "bin" / "python"


@pytest.fixture
def parsers() -> Path:
    """The Python of the environment with the targets' parsers."""
    python = Path(os.environ.get("MUXPLAN_PARSERS_PYTHON", BUILT))
    if not python.exists():
        pytest.skip("the environment with the targets' parsers is not built: make parsers")
    return python


def run(python: Path, program: str, data: object) -> None:
    """Run a program that asserts what its parser makes of the data on its standard input."""
    command = [str(python), "-W", "ignore", "-c", program]
    done = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def exported(target: str, autoscaler: str | None = None) -> Iterator[dict[str, str]]:
    """The files of every plan that the target takes."""
    for name in PLANS:
        if (name, target) not in REFUSED:
            yield exported_files(planned(name), target, FOLDER, autoscaler)[0]


def objects(target: str, kind: str, autoscaler: str | None = None) -> list[dict[str, Any]]:
    """All objects of a kind in the exports of the plans."""
    texts = [t for files in exported(target, autoscaler) for name, t in files.items() if name.endswith(".yaml")]
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    return [one for one in found if one.get("kind") == kind]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_exported_or_refused_with_the_reason(name: str, target: str) -> None:
    if (name, target) in REFUSED:
        with pytest.raises(ExportError, match=REFUSED[name, target]):
            exported_files(planned(name), target, FOLDER)
        return
    files, _ = exported_files(planned(name), target, FOLDER)
    launches = launches_of(planned(name), FOLDER).launches
    found = [one for file, text in files.items() for one in settings_in(file, text)]
    # Every target that copies by a number holds the settings once a queue, the others once a replica.
    assert len(found) in (len({one.queue_label for one in launches}), len(launches))
    held = json.dumps([one.value for one in found])
    for one in launches:
        assert one.source in held
        assert str(one.arguments["max-num-seqs"]) in held


@pytest.mark.parametrize("target", ["kubernetes", "kserve", "dynamo", "llm-d"])
def test_kubernetes_schemas_take_the_objects(target: str) -> None:
    for files in exported(target):
        assert manifest_faults({n: t for n, t in files.items() if n.endswith(".yaml")}) == []


def test_autoscalers_stay_within_the_plan() -> None:
    for files in exported("kubernetes", "hpa"):
        assert manifest_faults(files) == []
    deployed = {o["metadata"]["name"]: o["spec"]["replicas"] for o in objects("kubernetes", "Deployment")}
    scaled = objects("kubernetes", "HorizontalPodAutoscaler", "hpa")
    assert {o["metadata"]["name"] for o in scaled} == {name for name, copies in deployed.items() if copies > 1}
    assert all(o["spec"]["maxReplicas"] == deployed[o["spec"]["scaleTargetRef"]["name"]] for o in scaled)
    assert len(objects("kubernetes", "ScaledObject", "keda")) == len(scaled)
    with pytest.raises(ExportError, match="kubernetes only"):
        exported_files(planned("chat"), "kserve", FOLDER, "hpa")
    with pytest.raises(ExportError, match="hpa, keda"):
        exported_files(planned("chat"), "kubernetes", FOLDER, "vpa")


def test_keda_takes_the_scaled_objects(parsers: Path) -> None:
    scaled = objects("kubernetes", "ScaledObject", "keda")
    assert scaled
    program = """
import json, sys
from cloudcoil.models.keda.v1alpha1 import ScaledObject
for one in json.load(sys.stdin):
    read = ScaledObject.model_validate(one).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert read["spec"] == one["spec"], read
"""
    run(parsers, program, scaled)


def test_compose_schema_takes_the_files(parsers: Path) -> None:
    read = [yaml.safe_load(t) for files in exported("compose") for n, t in files.items() if n.endswith(".yaml")]
    assert len(read) >= len([name for name in PLANS if (name, "compose") not in REFUSED])
    program = """
import json, sys
from importlib import resources
import jsonschema
schemas = resources.files("check_jsonschema.builtin_schemas.vendor")
schema = json.loads(schemas.joinpath("compose-spec.json").read_text(encoding="utf-8"))
for one in json.load(sys.stdin):
    jsonschema.validate(one, schema)
"""
    run(parsers, program, read)


def test_docker_compose_takes_the_files(parsers: Path, tmp_path: Path) -> None:
    compose = parsers.parent / "docker-compose"
    for files in exported("compose"):
        for name, text in files.items():
            if not name.endswith(".yaml"):
                continue
            (tmp_path / name).write_text(text)
            command = [str(compose), "-f", name, "config", "--format", "json"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            read, written = json.loads(done.stdout), yaml.safe_load(text)
            assert set(read["services"]) == set(written["services"])
            for label, config in written["configs"].items():
                assert read["configs"][label]["content"] == config["content"]


def test_ray_serve_takes_the_config(parsers: Path) -> None:
    configs = [yaml.safe_load(files["serve.yaml"]) for files in exported("ray-serve")]
    # The public ray.serve.llm wants an engine installed; the config class itself does not.
    program = """
import json, sys
from ray.llm._internal.serve.core.configs.llm_config import LLMConfig
from ray.serve.schema import ServeDeploySchema
for config in json.load(sys.stdin):
    assert len(ServeDeploySchema.model_validate(config).applications) == len(config["applications"])
    for one in (c for a in config["applications"] for c in a["args"]["llm_configs"]):
        read = LLMConfig.model_validate(one)
        assert read.engine_kwargs == one["engine_kwargs"] and read.accelerator_type == one["accelerator_type"]
"""
    run(parsers, program, configs)


def test_kserve_models_take_the_services(parsers: Path) -> None:
    services = objects("kserve", "InferenceService")
    assert len(services) >= len([name for name in PLANS if (name, "kserve") not in REFUSED])
    # A field that the models do not know would be lost on the way through them.
    program = """
import json, sys
import kserve
from kubernetes.client import ApiClient, models
for name in dir(kserve):
    if name.startswith(("V1alpha1", "V1beta1")):
        setattr(models, name, getattr(kserve, name))
# KServe's generator writes this one out in full.
models.K8sIoApiAppsV1DeploymentStrategy = models.V1DeploymentStrategy
class Response:
    def __init__(self, data):
        self.data = json.dumps(data)
for one in json.load(sys.stdin):
    client = ApiClient()
    read = client.sanitize_for_serialization(client.deserialize(Response(one), "V1beta1InferenceService"))
    assert read == one, (read, one)
"""
    run(parsers, program, services)


def test_triton_takes_the_model_configs(parsers: Path) -> None:
    configs = {n: t for files in exported("triton") for n, t in files.items() if n.endswith("config.pbtxt")}
    assert len(configs) >= len([name for name in PLANS if (name, "triton") not in REFUSED])
    program = """
import json, sys
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for path, text in json.load(sys.stdin).items():
    config = text_format.Parse(text, ModelConfig())
    assert config.backend == "vllm" and config.name == path.split("/")[1], config
"""
    run(parsers, program, configs)


def test_vllm_takes_every_setting_of_every_target(tmp_path: Path) -> None:
    python = os.environ.get("MUXPLAN_ENGINE_PYTHON")
    if python is None:
        pytest.skip("MUXPLAN_ENGINE_PYTHON names no Python with vLLM")
    models = {load_model(n).hf_id: write_config(load_model(n), tmp_path / n) for n in MODELS}
    files = {f"{t}/{i}/{n}": x for t in TARGETS for i, found in enumerate(exported(t)) for n, x in found.items()}
    settings = "model: Qwen/Qwen3-0.6B\n"
    wrong = {
        "unknown.yaml": settings + "max-num-seqz: 4\n",
        "heads.yaml": settings + "tensor-parallel-size: 3\n",
        "budget.yaml": settings + "max-num-seqs: 512\nmax-num-batched-tokens: 256\n",
        "phase.yaml": settings + """kv-transfer-config: '{"kv_connector": "NixlConnector", "kv_role": "prefill"}'\n""",
    }
    checked, faults = engine_faults(files | wrong, Path(python), models)
    assert checked > 75
    assert [fault.split(":")[0] for fault in faults] == list(wrong), faults
    assert "--max-num-seqz" in faults[0] and "(3)" in faults[1] and "(512)" in faults[2]
    assert "literal_error" in faults[3]


def test_an_environment_without_vllm_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot run vLLM's checks: ModuleNotFoundError: No module named 'vllm'"):
        engine_faults({"a.yaml": "model: m\n"}, Path(sys.executable), {})
    with pytest.raises(ExportError, match="cannot run vLLM's checks"):
        engine_faults({"a.yaml": "model: m\n"}, tmp_path / "python", {})
