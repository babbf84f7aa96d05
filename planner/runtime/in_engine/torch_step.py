"""A whole step of a model: its kernels one after another, layer by layer. Run by the engine's own Python."""

from collections.abc import Mapping
from typing import Any

import torch
from torch_kernels import Run, build
from torch_timing import Stopwatch


def step_seconds(request: Mapping[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Seconds of a step of `layers` times the kernels `layer` and once the kernels `head` (kernel, columns).

    As many layers as `copies` says have weights and caches of their own and are gone through in turn.
    """
    copies = max(min(request["copies"], request["layers"]), 1)
    layers = [_built(request["layer"], watch.device) for _ in range(copies)]
    head = _built(request["head"], watch.device)

    def run() -> None:
        for number in range(request["layers"]):
            for kernel in layers[number % copies]:
                kernel()
        for kernel in head:
            kernel()

    seconds, how = watch.seconds(run, request["budget_s"])
    return {"seconds": seconds, "how": how}


def _built(kernels: list[Mapping[str, Any]], device: torch.device) -> list[Run]:
    return [build(one["kernel"], one["columns"], device) for one in kernels]
