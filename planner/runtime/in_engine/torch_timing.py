"""Times of a closure on a device: warmed up, its data out of the last cache. Run by the engine's own Python."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed

Run = Callable[[], object]
WARM_UP = 3
LEAST_RUNS, MOST_RUNS = 5, 200
COLLECTIVE_RUNS = 15
"""The same on every rank, whatever each measures."""
USUAL_CACHE_BYTES = 2**25


class Stopwatch:
    """Times closures on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.scratch = torch.zeros(2 * last_cache_bytes(device), dtype=torch.uint8, device=device)

    def seconds(self, run: Run, budget_s: float) -> tuple[list[float], str]:
        """(seconds of each of several runs that take about `budget_s` together, how they were timed)."""
        with torch.inference_mode():
            if self.device.type == "cuda":
                return self._cuda(run, budget_s)
            for _ in range(WARM_UP - 1):
                run()
            start = time.perf_counter()
            self._cpu_once(run)
            count = _runs(time.perf_counter() - start, budget_s)
            return [self._cpu_once(run) for _ in range(count)], "clock"

    def _cpu_once(self, run: Run) -> float:
        self.scratch.add_(1)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def _cuda(self, run: Run, budget_s: float) -> tuple[list[float], str]:
        replay, how = captured(run)
        count = _runs(self._events(replay, 1)[0], budget_s)
        return self._events(replay, count), how

    def _events(self, run: Run, count: int) -> list[float]:
        """Seconds between events on the GPU; emptying the cache before each run keeps the host ahead of it."""
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for start, end in pairs:
            self.scratch.zero_()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [1e-3 * float(start.elapsed_time(end)) for start, end in pairs]

    def together(self, run: Run) -> list[float]:
        """Seconds of a collective, which every rank must start equally often."""
        found = []
        for number in range(WARM_UP + COLLECTIVE_RUNS):
            torch.distributed.barrier()
            self._wait()
            start = time.perf_counter()
            run()
            self._wait()
            if number >= WARM_UP:
                found.append(time.perf_counter() - start)
        return found

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def captured(run: Run) -> tuple[Run, str]:
    """(the closure as a CUDA graph, warmed up, or itself when it cannot be captured, which of the two)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            run()
    except RuntimeError:
        torch.cuda.synchronize()
        return run, "events"

    def replay(data: Run = run) -> object:
        """The graph reads and writes what the closure holds: it must live as long."""
        return graph.replay()

    return replay, "graph"


def last_cache_bytes(device: torch.device) -> int:
    """Bytes of the GPU's L2, or of the processor's last cache."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [USUAL_CACHE_BYTES]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]])
    return max(sizes)


def _runs(one_s: float, budget_s: float) -> int:
    return int(min(max(budget_s / max(one_s, 1e-6), LEAST_RUNS), MOST_RUNS))
