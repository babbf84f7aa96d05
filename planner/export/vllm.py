"""`vllm serve` config files, one a replica, with their command lines."""

import json
import shlex
from collections.abc import Mapping

import yaml

from planner.export.launch import Launch, Launches
from planner.export.routing_table import by_replica
from planner.export.vllm_arguments import Argument

HEADER = "# vLLM settings of one replica; launch.sh has the line that starts it\n"
SCRIPT_HEAD = """\
#!/bin/sh
# sh launch.sh NODE: start the replicas of one node and wait for them; stopping the script stops them.
# routes.json says which share of every workload goes to which replica: a router in front has to do that."""
SCRIPT_START = """\
set -eu
cd -- "$(dirname -- "$0")"
pids=
stop() { kill $pids 2>/dev/null || true; }
trap stop INT TERM"""
SCRIPT_END = """\
failed=0
for pid in $pids; do wait "$pid" || failed=1; done
exit $failed"""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: `<label>.yaml` each, `launch.sh` with every command line, `launch.json` and `routes.json`
    for programs.
    """
    found = {f"{one.label}.yaml": _config_file(one) for one in launched.launches}
    found["launch.sh"] = _script(launched)
    found["launch.json"] = json.dumps([_entry(one) for one in launched.launches], indent=2) + "\n"
    found["routes.json"] = json.dumps(by_replica(launched), indent=2) + "\n"
    return found


def settings(one: Launch, port: int) -> dict[str, Argument]:
    """vLLM's config file as data: flags without dashes; a switch that is off is written as its negative flag."""
    found: dict[str, Argument] = {"model": one.source, "host": "0.0.0.0", "port": port}
    for name, value in one.arguments.items():
        if value is False:
            found[f"no-{name}"] = True
        else:
            found[name] = value
    return found


def command(one: Launch) -> list[str]:
    """The command line of a replica, in the folder of its config file."""
    # One core: the engine's own binding would take a second one for its server.
    bound = ["taskset", "-c", str(one.gpu_indices[0])] if one.device == "cpu" and len(one.gpu_indices) == 1 else []
    return [*bound, "vllm", "serve", "--config", f"{one.label}.yaml"]


def environment(one: Launch) -> dict[str, str]:
    """Variables that bind the replica to its GPUs (vLLM on ROCm reads the same one) or cores, one for every rank."""
    if one.device == "cpu":
        cores = [str(i) for i in one.gpu_indices]
        return {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "|".join(cores) if len(cores) > 1 else "nobind"}
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(i) for i in one.gpu_indices)}


def _config_file(one: Launch) -> str:
    return HEADER + str(yaml.safe_dump(settings(one, one.port), sort_keys=False))


def _script(launched: Launches) -> str:
    by_node: dict[str, list[Launch]] = {}
    for one in launched.launches:
        by_node.setdefault(one.node, []).append(one)
    lines = [SCRIPT_HEAD]
    lines += [f"# Not started: {_one_line(n)} is known only by measurement." for n in launched.left_out]
    lines += [SCRIPT_START, 'case "${1:-}" in']
    for node, some in by_node.items():
        lines.append(f"  {shlex.quote(node)})")
        lines += [f'    {_shell(environment(one), command(one))} & pids="$pids $!"' for one in some]
        lines.append("    ;;")
    names = " ".join(shlex.quote(node) for node in by_node)
    lines += [f"  *) echo 'usage: sh launch.sh NODE, one of:' {names} >&2; exit 2 ;;", "esac", SCRIPT_END]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


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
