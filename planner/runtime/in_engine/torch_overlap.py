"""Kernels over and over through a window of the clock, and nobody ends before it. Run by the engine's own Python.

Two kernels in one process have a thread and a stream each, on a GPU also SMs of their own where `sms` says how many (a
green context). Kernels in two processes (MPS, or cores) are given the same window: the clock is the machine's.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch_kernels import Run, build
from torch_timing import captured

TAIL_FRACTION = 0.25
"""How much longer than the window everybody goes on, so that no end of one kernel frees the other."""
BATCH_S = 0.005
"""Kernels of a GPU are started so many seconds at a time: waiting for each would leave it idle in between."""
BUILDING = threading.Lock()
"""No other thread may touch the GPU's memory while a graph is captured."""


Window = tuple[float, float]


def overlap(kernels: Sequence[Mapping[str, Any]], device: torch.device, window: Callable[[], Window]) -> dict[str, Any]:
    """Run kernels (kernel, columns, sms) together from before a window of the monotonic clock until after it; for each
    the seconds of a run within it, and how many there were. `window` is asked for when all are ready.
    """
    found: list[dict[str, Any]] = [{} for _ in kernels]
    times: list[Window] = []
    ready, go = threading.Barrier(len(kernels) + 1), threading.Barrier(len(kernels) + 1)
    loops = [_Loop(part, device, times, (ready, go)) for part in kernels]
    threads = [threading.Thread(target=loop.run, args=(found[n],)) for n, loop in enumerate(loops)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
        times.append(window())
        go.wait()
    except threading.BrokenBarrierError:
        pass  # one of them could not be made ready: its answer says why
    for thread in threads:
        thread.join()
    errors = [one["error"] for one in found if "error" in one]
    # A thread that only waited for another one says no more than that its barrier was broken.
    told = [error for error in errors if error != threading.BrokenBarrierError.__name__]
    return {"error": (told or errors)[0]} if errors else {"kernels": found}


class _Loop:
    """One kernel's thread."""

    def __init__(
        self,
        part: Mapping[str, Any],
        device: torch.device,
        times: Sequence[Window],
        barriers: tuple[threading.Barrier, threading.Barrier],
    ) -> None:
        self.part, self.device, self.times = part, device, times
        self.ready, self.go = barriers

    def run(self, found: dict[str, Any]) -> None:
        """Loop; the answer is put into `found`."""
        try:
            with torch.inference_mode():
                if self.device.type == "cuda":
                    torch.cuda.set_device(self.device)
                    found.update(self._on_stream())
                else:
                    found.update(self._loop(graph=False))
        except Exception as error:  # a thread's error is told by its answer
            self.ready.abort()
            self.go.abort()
            found["error"] = str(error).splitlines()[0][:300] if str(error) else type(error).__name__

    def _on_stream(self) -> dict[str, Any]:
        sms = self.part.get("sms")
        if not sms:
            with torch.cuda.stream(torch.cuda.Stream()):
                return self._loop(graph=True)
        context = torch.cuda.GreenContext.create(num_sms=sms, device_id=self.device.index)
        context.set_context()
        try:
            # A graph's kernels would run in the context that they were captured in: here they are launched.
            with torch.cuda.stream(context.Stream()):
                return self._loop(graph=False)
        finally:
            context.pop_context()

    def _ready(self, *, graph: bool) -> tuple[Run, int]:
        """(the kernel, warmed up, how often it is started at a time)."""
        with BUILDING:
            run = build(self.part["kernel"], self.part["columns"], self.device)
            run = captured(run)[0] if graph else run
            self._start(run, 2)
            began = time.monotonic()
            self._start(run, 1)
            once_s = time.monotonic() - began
        return run, max(round(BATCH_S / once_s), 1) if self.device.type == "cuda" else 1

    def _loop(self, *, graph: bool) -> dict[str, Any]:
        run, count = self._ready(graph=graph)
        self.ready.wait()
        self.go.wait()
        from_s, until_s = self.times[0]
        late_s = until_s + TAIL_FRACTION * (until_s - from_s)
        start, seconds = time.monotonic(), []
        late = start > from_s
        while start < late_s:
            self._start(run, count)
            end = time.monotonic()
            if start >= from_s and end <= until_s:
                seconds.append((end - start) / count)
            start = end
        if late:
            raise RuntimeError("the window had begun when the kernel started")
        if not seconds:
            raise RuntimeError("no run fitted into the window")
        return {"seconds": sum(seconds) / len(seconds), "runs": count * len(seconds)}

    def _start(self, run: Run, count: int) -> None:
        for _ in range(count):
            run()
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
