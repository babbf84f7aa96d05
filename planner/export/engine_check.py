"""Exported files against vLLM's own argument and configuration checks, in one subprocess of an engine's Python."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from planner.export import engine_probe
from planner.export.launch import ExportError

TIMEOUT_S = 600
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
MODE = "--disaggregation-mode"
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Settings of one engine in an exported file: its config file, its command line, or its keyword arguments."""

    file: str
    kind: str
    value: Any


def engine_faults(files: Mapping[str, str], python: Path, models: Mapping[str, Path]) -> tuple[int, list[str]]:
    """(settings that were checked, one sentence for each that vLLM refuses); `files` are those of any target.

    `python` is the interpreter of an environment with vLLM; `models` says in which folder the config.json of a model
    lies, by the name that the files call it. ExportError when the environment cannot run the check.
    """
    found = [one for name, text in files.items() for one in settings_in(name, text)]
    with tempfile.TemporaryDirectory() as folder:
        asked = [_question(one, models, Path(folder) / f"{i}.yaml") for i, one in enumerate(found)]
        answers = _answers(asked, python, Path(folder))
    faults = [f"{one.file}: {fault}" for one, fault in zip(found, answers, strict=True) if fault is not None]
    return len(found), faults


def settings_in(name: str, text: str) -> Iterator[Found]:
    """The engine settings that an exported file holds; none for routes and scripts."""
    if name.endswith("model.json"):
        yield Found(file=name, kind="keywords", value=json.loads(text))
    if not name.endswith(".yaml"):
        return
    for one in yaml.safe_load_all(text):
        if "services" in one:
            for config in one["configs"].values():
                yield Found(file=name, kind="config", value=yaml.safe_load(config["content"].replace("$$", "$")))
        elif "applications" in one:
            yield from (Found(file=name, kind="keywords", value=value) for value in _of_ray(one))
        elif one.get("kind") == "ConfigMap" and "vllm.yaml" in one["data"]:
            yield Found(file=name, kind="config", value=yaml.safe_load(one["data"]["vllm.yaml"]))
        elif one.get("kind") == "DynamoGraphDeployment":
            yield from (Found(file=name, kind="words", value=words) for words in _of_dynamo(one))
        elif "model" in one:
            yield Found(file=name, kind="config", value=one)


def _of_ray(config: Mapping[str, Any]) -> Iterator[Settings]:
    for application in config["applications"]:
        for one in application["args"]["llm_configs"]:
            yield {"model": one["model_loading_config"]["model_source"], **one["engine_kwargs"]}


def _of_dynamo(graph: Mapping[str, Any]) -> Iterator[list[str]]:
    """The workers' words, without Dynamo's own."""
    for worker in graph["spec"]["components"]:
        if worker["type"] != "frontend":
            words: list[str] = worker["podTemplate"]["spec"]["containers"][0]["args"]
            if MODE in words:
                words = [*words[: words.index(MODE)], *words[words.index(MODE) + 2 :]]
            yield [word for word in words if word != "--embedding-worker"]


def _question(one: Found, models: Mapping[str, Path], path: Path) -> Settings:
    def local(name: str) -> str:
        return str(models.get(name, name))

    if one.kind == "words":
        return {"words": [local(word) for word in one.value]}
    value = one.value | {"model": local(one.value["model"])}
    if one.kind == "keywords":
        return {"keywords": value}
    path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return {"config": str(path)}


def _answers(asked: Sequence[Settings], python: Path, folder: Path) -> list[str | None]:
    source, target = folder / "asked.json", folder / "answers.json"
    source.write_text(json.dumps(asked), encoding="utf-8")
    # Isolated: the folder of the probe holds a module of ours that is called vllm.
    command = [str(python), "-I", engine_probe.__file__, str(source), str(target)]
    try:
        done = subprocess.run(
            command, env={**os.environ, **OFFLINE}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"{python} cannot run vLLM's checks: {error}.") from error
    if not target.exists():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExportError(f"{python} cannot run vLLM's checks: {last[:300]}.")
    answers: list[str | None] = json.loads(target.read_text(encoding="utf-8"))
    return answers
