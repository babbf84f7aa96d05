"""The exported Ray Serve config of two tiny models, deployed on a local Ray with vLLM on this machine's cores.

`make ray-engine` builds the environment (MUXPLAN_RAY_PYTHON names another one); without it the test is skipped.
"""

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from planner import cli
from planner.load.client import closed_loop
from planner.load.requests import Sending, Target
from planner.runtime.engine_process import EngineProcess, start_engine
from tests.core_pair import MODELS, plan_pair

BUILT = Path(__file__).parents[2] / ".engine-ray" / "bin" / "python"
START_S = 900.0


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with Ray Serve and vLLM for the CPU."""
    found = Path(os.environ.get("MUXPLAN_RAY_PYTHON", BUILT))
    if not found.exists():
        pytest.skip("the environment with Ray Serve and vLLM for the CPU is not built: make ray-engine")
    return found


@pytest.fixture(scope="module")
def exported(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the export, its HTTP port a free one of this machine."""
    folder = tmp_path_factory.mktemp("ray")
    for name, shape in MODELS.items():
        words = ["--layers", "2", "--hidden", "128", "--vocabulary", "1024", "--max-length", "256"]
        command = ["tiny-model", shape, "-o", str(folder / name), *words, "--engine-python", str(python)]
        assert cli.main(command) == 0
    plan_pair(folder)
    assert cli.main(["export", str(folder / "plan.yaml"), "--to", "ray-serve", "-o", str(folder / "export")]) == 0
    config = yaml.safe_load((folder / "export" / "serve.yaml").read_text())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        config["http_options"] = {"host": "127.0.0.1", "port": probe.getsockname()[1]}
    (folder / "export" / "serve.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "export"


@pytest.fixture(scope="module")
def served(python: Path, exported: Path) -> Iterator[EngineProcess]:
    """`serve run` with a local Ray of its own, which nobody without its token reaches."""
    # Ray's sockets want a short path.
    scratch = Path(tempfile.mkdtemp(prefix="ray"))
    port = yaml.safe_load((exported / "serve.yaml").read_text())["http_options"]["port"]
    variables = {
        **{"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        **{"RAY_ADDRESS": "local", "RAY_TMPDIR": str(scratch)},
        **{"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
    }
    command = [str(python.parent / "serve"), "run", "serve.yaml"]
    engine = start_engine("Ray Serve", command, variables, folder=exported, port=port, log=exported / "serve.log")
    try:
        yield engine
    finally:
        engine.stop()
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(scratch) in " ".join(p.info["cmdline"] or [])]
        shutil.rmtree(scratch, ignore_errors=True)
        assert not left


def test_every_model_of_the_exported_config_answers(exported: Path, served: EngineProcess) -> None:
    config = yaml.safe_load((exported / "serve.yaml").read_text())
    one = np.ones(1, dtype=np.int64)
    sending = Sending(due_s=np.zeros(1), input_tokens=5 * one, output_tokens=8 * one, target=0 * one)
    base = f"http://127.0.0.1:{config['http_options']['port']}"
    targets = {}
    for application in config["applications"]:
        (model,) = application["args"]["llm_configs"]
        name = model["model_loading_config"]["model_id"]
        targets[name] = Target(url=base + application["route_prefix"], model=name, vocabulary=1024)
    assert set(targets) == set(MODELS)
    start = time.monotonic()
    while targets:
        assert served.alive(), served.why()
        assert time.monotonic() - start < START_S, served.why()
        for name, target in list(targets.items()):
            answers = closed_loop([target], sending, 1, limit_s=30.0)
            if answers.served.all():
                assert answers.tokens.tolist() == [8]
                del targets[name]
        time.sleep(1.0)
