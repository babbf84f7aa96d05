"""Run by the engine's own Python: `python measure_device.py`. What this machine's device is, as JSON: its name, memory,
and the arithmetic and bandwidth that one core or GPU really reaches (16-bit or fp32 matrix product, copy).
"""

import json
import time

import torch

SIZE = 2048
COPY_BYTES = 2**28
REPEATS = 5


def main() -> None:
    """Measure and print."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    if not cuda:
        torch.set_num_threads(1)
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32} if cuda else {"fp32": torch.float32}
    properties = torch.cuda.get_device_properties(0) if cuda else None
    found = {
        "name": properties.name if properties else "cpu-core",
        "memory_bytes": int(properties.total_memory) if properties else 0,
        "sm_count": int(properties.multi_processor_count) if properties else None,
        "peak_flops": {name: flops(kind, device) for name, kind in kinds.items()},
        "memory_bandwidth_bytes_per_s": bandwidth(device),
    }
    print(json.dumps(found))  # noqa: T201  the output of this program


def flops(kind: torch.dtype, device: torch.device) -> float:
    """Operations per second of a square matrix product, the best of a few."""
    a, b = (torch.ones(SIZE, SIZE, dtype=kind, device=device) for _ in range(2))
    return 2.0 * SIZE**3 / best_s(lambda: a @ b, device)


def bandwidth(device: torch.device) -> float:
    """Bytes per second read and written by a copy, the best of a few."""
    a, b = (torch.empty(COPY_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    return 2.0 * COPY_BYTES / best_s(lambda: b.copy_(a), device)


def best_s(work, device: torch.device) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the quickest run."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
