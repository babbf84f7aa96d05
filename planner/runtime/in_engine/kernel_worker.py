"""Run by the engine's own Python: `python kernel_worker.py cuda|cpu`. Measures kernels, one JSON line in, one out.

`{"do": "describe"}` and `{"do": "rates"}` say what the device is and how quick, `{"do": "measure", …}` times a kernel,
`{"do": "loop", …}` several at once (`torch_overlap`; answered by `ready`, and the next line gives the window); a whole
step is timed by `{"do": "step", …}` and run until the next line comes by `{"do": "busy", …}` (`torch_step`). What fails
is answered with `error`, and `unsupported` where no size of that kernel would run. It ends when its input does.
"""

import json
import os
import platform
import select
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch_kernels import TYPES, UnsupportedError, build, filled
from torch_overlap import overlap
from torch_step import keep_busy, step_seconds
from torch_timing import Stopwatch, last_cache_bytes

SQUARE = {"cuda": 8192, "cpu": 1024}
STREAM_BYTES = {"cuda": 2**30, "cpu": 2**28}
PROBE_S = 0.5
FP8_CAPABILITY = (8, 9)
BF16_CAPABILITY = (8, 0)


def main() -> None:
    """Answer until the input ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    device = _device(sys.argv[1])
    watch = Stopwatch(device)

    def tell(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if request["do"] == "loop":
            tell(overlap(request["kernels"], device, partial(_window, tell)))
            continue
        tell(_answer(request, watch))
        if request["do"] == "busy":
            keep_busy(request, watch, lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    answers.close()


def _window(tell: Callable[[dict[str, Any]], None]) -> tuple[float, float]:
    """The window that the next line gives once we have said that we are ready."""
    tell({"ready": True})
    given = json.loads(sys.stdin.readline())
    return given["from_s"], given["until_s"]


def _device(kind: str) -> torch.device:
    rank = int(os.environ.get("RANK", "0"))
    device = torch.device("cuda", rank) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"torch {torch.__version__} finds no CUDA GPU on this machine")
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    return device


def _answer(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    try:
        match request["do"]:
            case "describe":
                return describe(watch.device)
            case "rates":
                return rates(watch)
            case "measure":
                return _measured(request, watch)
            case "busy":
                return {"started": True}
            case _:
                return dict(step_seconds(request, watch))
    except (RuntimeError, NotImplementedError, UnsupportedError) as error:
        if watch.device.type == "cuda":
            torch.cuda.empty_cache()  # memory that ran out is the usual one
        told = " ".join(str(error).split())[:300] or type(error).__name__
        return {"error": told, "unsupported": isinstance(error, UnsupportedError)}


def _measured(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    run = build(request["kernel"], request["columns"], watch.device)
    if request["kernel"] == "collective":
        return {"seconds": watch.together(run), "how": "clock"}
    seconds, how = watch.seconds(run, request["budget_s"])
    return {"seconds": seconds, "how": how}


def describe(device: torch.device) -> dict[str, Any]:
    """What the device is."""
    found = {"torch": torch.__version__, "cache_bytes": last_cache_bytes(device), "sm_count": None}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return found | {
            "name": properties.name,
            "memory_bytes": int(properties.total_memory),
            "sm_count": int(properties.multi_processor_count),
            "driver": _driver(),
            "devices": torch.cuda.device_count(),
        }
    return found | {
        "name": _processor(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "driver": platform.release(),
        "threads": torch.get_num_threads(),
    }


def rates(watch: Stopwatch) -> dict[str, Any]:
    """The rates that the device really reaches; of a processor, which has none, the link's is None."""
    cuda = watch.device.type == "cuda"
    return {
        "peak_flops": _flops(watch),
        "memory_bandwidth_bytes_per_s": max(_rate(watch, "device_to_device", 2.0), _reading(watch)),
        "link_bytes_per_s": _rate(watch, "host_to_device", 1.0) if cuda else None,
    }


def _flops(watch: Stopwatch) -> dict[str, float]:
    """Operations per second of a square product by operand type; a 16-bit type that loses against fp32 is left out."""
    size, found = SQUARE[watch.device.type], {}
    for name in TYPES:
        if _has_units(name, watch.device):
            columns = {"m": size, "n": size, "k": size, "operand": name}
            seconds, _ = watch.seconds(build("gemm", columns, watch.device), PROBE_S)
            found[name] = 2.0 * size**3 / min(seconds)
    if found.get("bf16", 0.0) < found["fp32"]:
        found.pop("bf16", None)
    return found


def _has_units(name: str, device: torch.device) -> bool:
    if device.type != "cuda":
        return name != "fp8"
    capability = torch.cuda.get_device_capability(device)
    return bool({"fp8": capability >= FP8_CAPABILITY, "bf16": capability >= BF16_CAPABILITY}.get(name, True))


def _rate(watch: Stopwatch, direction: str, passes: float) -> float:
    columns = {"bytes": STREAM_BYTES[watch.device.type], "direction": direction}
    seconds, _ = watch.seconds(build("copy", columns, watch.device), PROBE_S)
    return float(passes * STREAM_BYTES[watch.device.type] / min(seconds))


def _reading(watch: Stopwatch) -> float:
    """Bytes per second of a product of a matrix with one vector, which only reads."""
    size, side = STREAM_BYTES[watch.device.type], 4096
    matrix = filled((size // 4 // side, side), torch.float32, watch.device)
    vector = filled((side,), torch.float32, watch.device)
    seconds, _ = watch.seconds(lambda: matrix @ vector, PROBE_S)
    return float(size / min(seconds))


def _driver() -> str:
    path = Path("/proc/driver/nvidia/version")
    return path.read_text().splitlines()[0] if path.is_file() else f"CUDA {torch.version.cuda}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
