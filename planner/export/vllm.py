"""`vllm serve` config files, one a replica, with their command lines."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence

import yaml

from planner.export.launch import FIRST_PORT, Launch, Launches
from planner.export.routing_table import by_replica
from planner.export.vllm_arguments import Argument

NIXL_OFFSET = 5600 - FIRST_PORT
"""Every engine of a node needs a port of its own for the NIXL handshake: they go up from vLLM's default."""
HEADER = "# vLLM settings of one replica; launch.sh has the line that starts it\n"
SCRIPT_HEAD = """\
#!/bin/sh
# sh launch.sh NODE: start the replicas of one node and wait for them; stopping the script stops them.
# routes.json says which share of every workload goes to which replica: a router in front has to do that."""
MPS_HEAD = """\
# Replicas share GPUs by MPS: nvidia-cuda-mps-control -d has to run on their nodes first, as the same user."""
PROXY_HEAD = """\
# Prefill and decode replicas do nothing alone: a proxy in front of them (routes.json lists them) has to send every
# request to a prefill replica and then, with the kv_transfer_params of its answer, to a decode replica. vLLM's
# tests/v1/kv_connector/nixl_integration/toy_proxy_server.py is one. All need the Python package nixl."""
MPS_GUARD = """\
    [ -e "${CUDA_MPS_PIPE_DIRECTORY:-/tmp/nvidia-mps}/control" ] ||
      { echo 'no MPS control daemon runs here: start nvidia-cuda-mps-control -d' >&2; exit 1; }"""
NIXL_GUARD = """\
    : "${VLLM_NIXL_SIDE_CHANNEL_HOST:?prefill and decode stand on several nodes: set it to the address of this one}\""""
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


Command = Callable[[Launch], list[str]]
"""The words that start a replica in the folder of the export."""


def files(launched: Launches) -> dict[str, str]:
    """Relative path → text: `<label>.yaml` each, `launch.sh` with every command line, `launch.json` and `routes.json`
    for programs.
    """
    found = {f"{one.label}.yaml": _config_file(one) for one in launched.launches}
    return found | launch_files(launched, command)


def launch_files(launched: Launches, command: Command) -> dict[str, str]:
    """`launch.sh` with every command line, the same for programs as `launch.json`, and `routes.json`."""
    entries = [_entry(one, command(one)) for one in launched.launches]
    return {
        "launch.sh": _script(launched, command),
        "launch.json": json.dumps(entries, indent=2) + "\n",
        "routes.json": json.dumps(by_replica(launched), indent=2) + "\n",
    }


def settings(one: Launch, port: int) -> dict[str, Argument]:
    """vLLM's config file as data: flags without dashes; a switch that is off is written as its negative flag."""
    found: dict[str, Argument] = {"model": one.source, "host": "0.0.0.0", "port": port}
    for name, value in one.arguments.items():
        if value is False:
            found[f"no-{name}"] = True
        else:
            found[name] = value
    return found


def engine_arguments(one: Launch) -> dict[str, Argument]:
    """The same settings as the keyword arguments of vLLM's AsyncEngineArgs, without those of its HTTP server."""
    return {"model": one.source} | {name.replace("-", "_"): value for name, value in one.arguments.items()}


def command(one: Launch) -> list[str]:
    """The command line of a replica, in the folder of its config file."""
    # One core: the engine's own binding would take a second one for its server.
    bound = ["taskset", "-c", str(one.gpu_indices[0])] if one.device == "cpu" and len(one.gpu_indices) == 1 else []
    return [*bound, "vllm", "serve", "--config", f"{one.label}.yaml"]


def environment(one: Launch) -> dict[str, str]:
    """Variables that bind the replica to its GPUs (vLLM on ROCm reads the same one) and to its share of one, or to
    cores, one for every rank; and the port on which it hands on its KV cache.
    """
    if one.device == "cpu":
        cores = [str(i) for i in one.gpu_indices]
        return {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "|".join(cores) if len(cores) > 1 else "nobind"}
    found = {"CUDA_VISIBLE_DEVICES": ",".join(str(i) for i in one.gpu_indices)}
    if one.mps_percent is not None:
        found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(one.mps_percent)
    if one.replica.role != "both":
        found["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(one.port + NIXL_OFFSET)
    return found


def _config_file(one: Launch) -> str:
    return HEADER + str(yaml.safe_dump(settings(one, one.port), sort_keys=False))


def _script(launched: Launches, command: Command) -> str:
    by_node: dict[str, list[Launch]] = {}
    for one in launched.launches:
        by_node.setdefault(one.node, []).append(one)
    lines = [SCRIPT_HEAD]
    lines += [MPS_HEAD] if any(one.mps_percent is not None for one in launched.launches) else []
    lines += [PROXY_HEAD] if any(one.replica.role != "both" for one in launched.launches) else []
    lines += [f"# Not started: {_one_line(n)} is known only by measurement." for n in launched.left_out]
    lines += [SCRIPT_START, 'case "${1:-}" in']
    for node, some in by_node.items():
        lines.append(f"  {shlex.quote(node)})")
        lines += _guards(some)
        lines += [f'    {_shell(environment(one), command(one))} & pids="$pids $!"' for one in some]
        lines.append("    ;;")
    names = " ".join(shlex.quote(node) for node in by_node)
    lines += [f"  *) echo 'usage: sh launch.sh NODE, one of:' {names} >&2; exit 2 ;;", "esac", SCRIPT_END]
    return "\n".join(lines) + "\n"


def _guards(launches: Sequence[Launch]) -> list[str]:
    """What has to be there on a node before its replicas start: they would start without it, and not as planned."""
    found = [MPS_GUARD] if any(one.mps_percent is not None for one in launches) else []
    apart = any(one.replica.role != "both" and len({gpu.node for gpu in one.whole.gpu_ids}) > 1 for one in launches)
    return [*found, NIXL_GUARD] if apart else found


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shell(variables: Mapping[str, str], words: list[str]) -> str:
    assigned = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return " ".join([*assigned, shlex.join(words)])


def _entry(one: Launch, words: list[str]) -> dict[str, object]:
    return {
        "group": one.group.id,
        "node": one.node,
        "port": one.port,
        "env": environment(one),
        "command": words,
        "model": one.model,
    }
