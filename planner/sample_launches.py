"""How the public benchmark (InferenceMAX) starts its engines, as its launch scripts have it, one rule after the other.

The rows of `silicon_sample.csv` name none of these settings.
"""

from dataclasses import dataclass

SHORT = (1024, 1024)
LEAST_SEQS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a script looks at."""

    engine: str
    model: str
    generation: str
    small_weights: bool
    """fp4, not fp8."""
    lengths: tuple[int, int]
    tp: int
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Settings of a start, by the names of `planner.question.Question`; None: the engine's default."""

    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float | None = None
    poll_steps: int = 1
    wait_steps: int = 0
    wait_fraction: float = 1.0


def launch_of(served: Served) -> Launch:
    """The settings of a run of vLLM, SGLang or TensorRT-LLM."""
    if served.engine == "sglang":
        return _sglang(served)
    if served.engine == "trtllm":
        return _trtllm(served)
    return Launch(max_num_seqs=max(LEAST_SEQS, served.clients), max_num_batched_tokens=8192)


def _sglang(served: Served) -> Launch:
    """benchmarks/dsr1_{fp8,fp4}_{h200,b200}: chunked-prefill-size, mem-fraction-static, scheduler-recv-interval."""
    if served.generation != "blackwell":
        seqs = 512 if served.lengths == SHORT else 256
        return Launch(max_num_seqs=seqs, max_num_batched_tokens=32768, gpu_memory_utilization=0.82)
    polls = 30 if served.clients >= 16 else 10
    if served.small_weights:
        return Launch(max_num_seqs=256, max_num_batched_tokens=16384, gpu_memory_utilization=0.85, poll_steps=polls)
    if served.tp == 4:
        return Launch(max_num_seqs=32, max_num_batched_tokens=8192, gpu_memory_utilization=0.95, poll_steps=10)
    return Launch(max_num_seqs=128, max_num_batched_tokens=32768, gpu_memory_utilization=0.82, poll_steps=polls)


def _trtllm(served: Served) -> Launch:
    """benchmarks/{70b,dsr1}_{fp8,fp4}_*_trt: max_num_tokens, batch_wait_timeout_iters, batch_wait_max_tokens_ratio."""
    if not served.model.startswith("deepseek"):
        waits = 20 if served.lengths == SHORT and served.tp < 8 else 0
        return Launch(max_num_seqs=2048, max_num_batched_tokens=16384, wait_steps=waits, wait_fraction=0.9)
    whole = served.lengths[0] + served.clients + 64
    delayed = served.generation == "blackwell" and not served.small_weights and served.lengths == SHORT
    return Launch(
        max_num_seqs=2048,
        max_num_batched_tokens=-(-whole // 64) * 64,
        wait_steps=40 if delayed and served.clients >= 64 else 0,
        wait_fraction=0.8,
    )
