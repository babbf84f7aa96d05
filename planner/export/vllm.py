"""`vllm serve` config files, one a replica, with their command lines."""

import json
import shlex
from collections.abc import Mapping

import yaml

from planner.export.launch import Launch, Launches

HEADER = "# vLLM settings of one replica; launch.sh has the line that starts it\n"


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: `<label>.yaml` each, `launch.sh` with every command line, `launch.json` for programs."""
    found = {f"{one.label}.yaml": HEADER + _config(one) for one in launched.launches}
    found["launch.sh"] = _script(launched)
    found["launch.json"] = json.dumps([_entry(one) for one in launched.launches], indent=2) + "\n"
    return found


def _config(one: Launch) -> str:
    """Flat keys as vLLM's flags without dashes; false switches are written as their negative flag."""
    settings: dict[str, object] = {"model": one.source, "host": "0.0.0.0", "port": one.port}
    for name, value in one.arguments.items():
        if value is False:
            settings[f"no-{name}"] = True
        else:
            settings[name] = value
    return str(yaml.safe_dump(settings, sort_keys=False))


def command(one: Launch) -> list[str]:
    """The command line of a replica, in the folder of its config file."""
    return ["vllm", "serve", "--config", f"{one.label}.yaml"]


def environment(one: Launch) -> dict[str, str]:
    """Variables that bind the replica to its GPUs."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(i) for i in one.gpu_indices)}


def _script(launched: Launches) -> str:
    lines = ["#!/bin/sh", "# sh launch.sh NODE: start the replicas of one node, from this folder, and wait for them."]
    lines += [f"# Not started: {name} is known only by measurement." for name in launched.left_out]
    lines += ["set -eu", 'case "${1:-}" in']
    by_node: dict[str, list[Launch]] = {}
    for one in launched.launches:
        by_node.setdefault(one.node, []).append(one)
    for node, some in by_node.items():
        lines.append(f"  {shlex.quote(node)})")
        lines += [f"    {_shell(environment(one), command(one))} &" for one in some]
        lines.append("    wait ;;")
    names = " ".join(shlex.quote(node) for node in by_node)
    return "\n".join([*lines, f"  *) echo 'usage: sh launch.sh NODE, one of:' {names} >&2; exit 2 ;;", "esac"]) + "\n"


def _shell(variables: Mapping[str, str], words: list[str]) -> str:
    assigned = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return " ".join([*assigned, shlex.join(words)])


def _entry(one: Launch) -> dict[str, object]:
    return {
        "group": one.group.id,
        "node": one.node,
        "port": one.port,
        "env": environment(one),
        "command": command(one),
        "model": one.model,
    }
