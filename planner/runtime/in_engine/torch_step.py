"""A whole step of a model: its kernels one after another, layer by layer. Run by the engine's own Python."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch_kernels import Run, build
from torch_timing import Stopwatch


def step_seconds(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Seconds of a step of `layers` times the kernels `layer` and once the kernels `head` (kernel, columns, repeats).

    As many layers as `copies` says have weights and caches of their own and are gone through in turn.
    """
    seconds, how = watch.seconds(_step(request, watch.device), request["budget_s"])
    return {"seconds": seconds, "how": how}


def keep_busy(request: Mapping[str, Any], watch: Stopwatch, ended: Callable[[], bool]) -> None:
    """Run a step over and over until it is ended."""
    run = _step(request, watch.device)
    with torch.inference_mode():
        while not ended():
            run()
            if watch.device.type == "cuda":
                torch.cuda.synchronize()


def _step(request: Mapping[str, Any], device: torch.device) -> Run:
    copies = max(min(request["copies"], request["layers"]), 1)
    layers = [_built(request["layer"], device) for _ in range(copies)]
    head = _built(request["head"], device)

    def run() -> None:
        for number in range(request["layers"]):
            for kernel in layers[number % copies]:
                kernel()
        for kernel in head:
            kernel()

    return run


def _built(kernels: list[Mapping[str, Any]], device: torch.device) -> list[Run]:
    found = []
    for one in kernels:
        found += [build(one["kernel"], one["columns"], device)] * one["repeats"]
    return found
