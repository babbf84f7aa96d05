"""What the simulator takes and gives: cells, requests, closed loops and outcomes.

One router serves `copies` equal replicas. A request that can never run (longer than the model's context, more KV blocks
than there are, or a prompt that must not be cut and does not fit a step) is rejected where it arrives: it takes no
router turn and loads no replica.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import inf

import numpy as np
from numpy.typing import NDArray

from profiles.step_table import StepTable

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

DEADLINE_TOLERANCE_S = 1e-9
"""Times are sums of floats: a deadline is met when it is missed by no more than this."""


class Router(IntEnum):
    """How a request gets its replica, decided when it arrives and never changed.

    ROUND_ROBIN: replica `turn mod copies`; the turn counts requests that were not rejected.
    LEAST_LOADED: fewest unfinished requests, those in the front end included; the lowest index on ties.
    LEAST_KV: greatest freeness, the lowest index on ties, after Llumnix (OSDI 2024, section 4.4):
    `(kv_blocks − blocks held − blocks that queued requests need for their tokens so far) / max(1, running requests)`;
    queued are those in the front end, waiting and preempted.
    """

    ROUND_ROBIN = 0
    LEAST_LOADED = 1
    LEAST_KV = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """How a scheduler fills its steps; the defaults are those of vLLM.

    `prompts_apart`: a step holds prompts only, or decodes only when there is no prompt to schedule. `whole_prompts`: a
    prompt is never cut. `reserves_output`: a request starts when there are blocks for all of its answer, so that none
    is preempted. `poll_steps`: while only decodes run, new requests are looked for every so many steps.
    `wait_steps`: prompts wait beside decodes for up to so many steps, until they and the decodes make
    `wait_fraction` of max_num_batched_tokens; 0: they do not wait.
    """

    prompts_apart: bool = False
    whole_prompts: bool = False
    reserves_output: bool = False
    poll_steps: int = 1
    wait_steps: int = 0
    wait_fraction: float = 1.0

    def __post_init__(self) -> None:
        if self.poll_steps < 1 or self.wait_steps < 0 or not 0 < self.wait_fraction <= 1:
            raise ValueError("poll_steps must be at least 1, wait_steps at least 0, wait_fraction in (0, 1]")


AS_VLLM = Dispatch()


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCell:
    """LLM replicas behind one router. `kv_blocks`: usable blocks of one replica, of `block_tokens` tokens each.

    `embed`: a model that only reads its prompt: a request is done, and its KV freed, when the prompt is processed;
    its output tokens count as none.
    """

    table: StepTable
    copies: int
    kv_blocks: int
    block_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    router: Router = Router.ROUND_ROBIN
    embed: bool = False
    dispatch: Dispatch = AS_VLLM

    def __post_init__(self) -> None:
        for name in ("copies", "kv_blocks", "block_tokens", "max_num_seqs", "max_model_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            # vLLM refuses the same: a step must have room for one token of every running sequence.
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs ({self.max_num_seqs})"
            )
        preempts = not self.dispatch.reserves_output
        if self.dispatch.whole_prompts and preempts and self.max_num_batched_tokens < self.max_model_len:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_model_len ({self.max_model_len})"
                " of an engine that does not cut the prompts of preempted requests"
            )
        if self.table.schedule_lag_steps not in (0, 1):
            raise ValueError(f"schedule_lag_steps must be 0 or 1, got {self.table.schedule_lag_steps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCell:
    """Replicas known by measured latencies: `latency_s[b, s]` seconds of a batch of `batches[b]` in stage s.

    `batches` increases. A batch smaller than the smallest one measured takes as long as that one. A request's
    answer leaves `fixed_overhead_s` after the last stage, which loads no stage. `deadline_s` from the arrival: a
    request that can no longer meet it is dropped when its turn comes; inf drops none.
    """

    latency_s: FloatArray
    batches: IntArray
    copies: int
    max_batch: int
    fixed_overhead_s: float = 0.0
    deadline_s: float = inf
    router: Router = Router.ROUND_ROBIN

    def __post_init__(self) -> None:
        if self.copies < 1 or self.max_batch < 1:
            raise ValueError("copies and max_batch must be at least 1")
        if self.latency_s.ndim != 2 or self.latency_s.shape[0] != self.batches.size or self.latency_s.size == 0:
            raise ValueError("latency_s needs one row a batch size and one column a stage")
        if self.batches[0] < 1 or np.any(np.diff(self.batches) <= 0):
            raise ValueError("batches must be positive and increase")
        if self.router is Router.LEAST_KV:
            raise ValueError("a latency-table replica has no KV cache: the router must be round_robin or least_loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in order of arrival, arrays of shape (requests,).

    `cached_tokens` of the prompt are in the prefix cache: they are not computed (unless the request is preempted, which
    loses them) but need blocks like all others. At least one token is computed: cached < input.
    """

    arrival_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    cached_tokens: IntArray

    def __post_init__(self) -> None:
        if self.arrival_s.size and (self.arrival_s[0] < 0 or np.any(np.diff(self.arrival_s) < 0)):
            raise ValueError("arrivals must start at 0 or later and be in order")
        check_tokens(self.arrival_s.size, self.input_tokens, self.output_tokens, self.cached_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Clients that each send their next request when the one before has ended (or at once when it was rejected).

    Client i starts at `start_s[i]` (in order); requests are taken from one list, the next one by whoever is free.
    """

    start_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    cached_tokens: IntArray

    def __post_init__(self) -> None:
        if self.start_s.size == 0 or self.start_s[0] < 0 or np.any(np.diff(self.start_s) < 0):
            raise ValueError("a closed loop needs at least one client, and starts in order")
        check_tokens(self.input_tokens.size, self.input_tokens, self.output_tokens, self.cached_tokens)


def check_tokens(count: int, input_tokens: IntArray, output_tokens: IntArray, cached_tokens: IntArray) -> None:
    """Raise ValueError unless there are `count` of each, inputs and outputs of at least 1 and 0 <= cached < input."""
    if not input_tokens.size == output_tokens.size == cached_tokens.size == count:
        raise ValueError("requests need as many lengths as arrivals")
    if count == 0:
        return
    if input_tokens.min() < 1 or output_tokens.min() < 1:
        raise ValueError("a request has at least one input token and one output token")
    if cached_tokens.min() < 0 or np.any(cached_tokens >= input_tokens):
        raise ValueError("cached tokens must be at least 0 and below the input tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What each request saw, arrays of shape (requests,) in the order of arrival, and what the replicas did.

    `arrival_s`: inf where a closed loop or horizon never sent it. `ttft_s`, `e2e_s`: from the arrival to the client;
    NaN unless `served`, TTFT also for a latency-table cell. `tpot_s`: (e2e − ttft) / (output − 1); NaN for one token.
    `replica`: −1 where rejected or never sent.
    `component_s[c]`: seconds of stage time by `profiles.step_table.Component` over all steps (a floor's extra time is
    ENGINE); its sum is `busy_s`, the busy seconds of a stage summed over replicas (mean over the stages of a
    latency table, whose component_s is zero). `kv_peak_fraction`: of the blocks of the fullest replica, over time.
    """

    arrival_s: FloatArray
    ttft_s: FloatArray
    e2e_s: FloatArray
    tpot_s: FloatArray
    served: BoolArray
    replica: IntArray
    request_preemptions: IntArray
    component_s: FloatArray
    busy_s: float
    steps: int
    kv_peak_fraction: float

    @property
    def preemptions(self) -> int:
        """Preemptions of all requests together."""
        return int(self.request_preemptions.sum())

    @property
    def makespan_s(self) -> float:
        """Seconds from time 0 until the last served request ended; 0 when none was."""
        if not self.served.any():
            return 0.0
        return float(np.max(self.arrival_s[self.served] + self.e2e_s[self.served]))
