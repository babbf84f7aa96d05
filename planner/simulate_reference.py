"""LLM cells event by event in plain Python: slow, and obvious enough to be believed. The compiled kernel must agree.

One heap of events for the whole cell; at equal times a step end comes before an arrival, an arrival before a request
leaves the front end, and that before a step start; within a kind the lowest replica (arrivals: the order of sending).

The scheduler follows vLLM V1 (`Scheduler.schedule` in `vllm/v1/core/sched/scheduler.py`): first the running requests
in order, preempting the last one when blocks are short, then, if nothing was preempted, the waiting ones. As there, a
prompt chunk may start while the chunk before it is in the pipeline, and a request that is preempted while a step
samples for it keeps that token; it is not scheduled again before the step has ended. A start that finds nothing to
schedule is not repeated before a step ends. Stages serve batches in order, so a short step behind a long one waits.
Where other engines differ, `simulate_types.Dispatch` says how.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from math import ceil, floor, inf, log2

import numpy as np

from planner.simulate_types import ClosedLoop, FloatArray, LlmCell, Outcome, Requests, Router
from profiles.step_table import PREFILL_GRID_TOKENS, Component, StepTable


class Kind(IntEnum):
    """Kinds of events, in the order in which they happen at one time."""

    END = 0
    ARRIVAL = 1
    VISIBLE = 2
    START = 3


@dataclass(slots=True, eq=False)
class Request:
    """A request and how far it is. `computed`: tokens whose KV is computed or in the pipeline.

    `decoding`: all of the prompt is; `sampling`: a step in flight will give it a token.
    """

    index: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    arrival_s: float = inf
    visible_s: float = inf
    generated: int = 0
    computed: int = 0
    blocks: int = 0
    decoding: bool = False
    sampling: bool = False
    preemptions: int = 0
    replica: int = -1
    first_token_s: float | None = None
    end_s: float | None = None

    @property
    def known(self) -> int:
        """Tokens there are: prompt and generated ones."""
        return self.input_tokens + self.generated


@dataclass(slots=True)
class Step:
    """What one step schedules: decodes as KV lengths, prompt chunks as (done, tokens), who gets a token at its end."""

    decodes: list[int] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    samplers: list[Request] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens in the step."""
        return len(self.decodes) + sum(q for _, q in self.chunks)


@dataclass(slots=True)
class Replica:
    """One replica. `waiting` holds requests that left the front end, preempted ones first; `front` those in it.

    `polled_s`: when new requests were last looked for; `since`: steps since then, or steps that prompts have waited.
    """

    index: int
    stage_free_s: list[float]
    running: list[Request] = field(default_factory=list)
    waiting: deque[Request] = field(default_factory=deque)
    front: deque[Request] = field(default_factory=deque)
    in_flight: deque[Step] = field(default_factory=deque)
    front_free_s: float = 0.0
    last_start_s: float = -1.0
    stalled: bool = False
    planned_start_s: float | None = None
    polled_s: float = -1.0
    since: int = 0

    @property
    def used_blocks(self) -> int:
        """Blocks held by running requests."""
        return sum(r.blocks for r in self.running)

    @property
    def unfinished(self) -> int:
        """Requests that are here and have not ended."""
        return len(self.running) + len(self.waiting) + len(self.front)


def dense_s(values: FloatArray, position: float) -> float:
    """Linear between the entries of a dense table; the last slope goes on beyond its end."""
    i = min(floor(position), len(values) - 2)
    return float(values[i] + (position - i) * (values[i + 1] - values[i]))


def decode_attention_s(values: FloatArray, batch: int, kv_tokens: int) -> float:
    """Linear in the batch and in the KV tokens inside each octave, the edge octaves extended; 0 for no sequence."""
    if batch == 0:
        return 0.0
    i = min(floor(log2(batch)), values.shape[0] - 2)
    j = min(floor(log2(max(kv_tokens, 1))), values.shape[1] - 2)
    u = batch / 2**i - 1
    v = max(kv_tokens, 1) / 2**j - 1
    square = values[i : i + 2, j : j + 2]
    return float(
        (1 - u) * ((1 - v) * square[0, 0] + v * square[0, 1]) + u * ((1 - v) * square[1, 0] + v * square[1, 1])
    )


def step_s(table: StepTable, step: Step, samples: int) -> tuple[float, dict[Component, float]]:
    """Seconds of a step on one stage, and by component (the formula of profiles.step_table)."""
    factor = table.prefill_factor if step.chunks else 1.0
    attention = 0.0
    for done, tokens in step.chunks:
        attention += dense_s(table.prefill_attention_s, (done + tokens) / PREFILL_GRID_TOKENS)
        attention -= dense_s(table.prefill_attention_s, done / PREFILL_GRID_TOKENS)
    parts = {
        Component.LINEAR: factor * dense_s(table.linear_s, step.tokens),
        Component.DECODE_ATTENTION: decode_attention_s(table.decode_attention_s, len(step.decodes), sum(step.decodes)),
        Component.PREFILL_ATTENTION: factor * attention,
        Component.SAMPLING: dense_s(table.sampling_s, samples),
        Component.ENGINE: table.overhead_s,
    }
    stage_s = sum(parts.values())
    if step.chunks and stage_s < table.prefill_floor_s:
        parts[Component.ENGINE] += table.prefill_floor_s - stage_s
        stage_s = table.prefill_floor_s
    return stage_s, parts


def simulate(cell: LlmCell, work: Requests | ClosedLoop, horizon_s: float = inf) -> Outcome:
    """The outcome of the requests, or of the closed loop, on the cell."""
    return Simulation(cell, work, horizon_s).run()


class Simulation:
    """One run over a cell. `run` returns the outcome."""

    def __init__(self, cell: LlmCell, work: Requests | ClosedLoop, horizon_s: float = inf) -> None:
        self.cell = cell
        self.horizon_s = horizon_s
        outputs = np.ones_like(work.output_tokens) if cell.embed else work.output_tokens
        self.requests = [
            Request(index=i, input_tokens=int(p), output_tokens=int(n), cached_tokens=int(c))
            for i, (p, n, c) in enumerate(zip(work.input_tokens, outputs, work.cached_tokens, strict=True))
        ]
        self.unsent = deque(self.requests)
        self.closed = isinstance(work, ClosedLoop)
        self.replicas = [Replica(index=i, stage_free_s=[0.0] * cell.table.stages) for i in range(cell.copies)]
        self.turn = 0
        self.events: list[tuple[float, int, int, int]] = []
        self.sequence = 0
        self.component_s = dict.fromkeys(Component, 0.0)
        self.steps = 0
        self.peak_blocks = 0
        for at in work.start_s if isinstance(work, ClosedLoop) else work.arrival_s:
            self.push(float(at), Kind.ARRIVAL, 0)

    def push(self, at: float, kind: Kind, replica: int) -> None:
        """Plan an event."""
        heapq.heappush(self.events, (at, kind, replica, self.sequence))
        self.sequence += 1

    def run(self) -> Outcome:
        """Let everything happen up to the horizon."""
        while self.events:
            now, kind, index, _ = heapq.heappop(self.events)
            if now > self.horizon_s or (kind == Kind.START and now >= self.horizon_s):
                continue
            if kind == Kind.ARRIVAL:
                self.arrive(now)
                continue
            replica = self.replicas[index]
            if kind == Kind.END:
                self.end_step(replica, now)
            elif kind == Kind.VISIBLE:
                replica.waiting.append(replica.front.popleft())
            else:
                replica.planned_start_s = None
                self.start_step(replica, now)
            self.plan_start(replica, now)
        return self.outcome()

    def arrive(self, now: float) -> None:
        """The next request is sent; when it is rejected, the client of a closed loop sends another one at once."""
        while self.unsent:
            request = self.unsent.popleft()
            request.arrival_s = now
            if not self.rejected(request):
                self.enter(request, self.route(), now)
                return
            if not self.closed:
                return

    def rejected(self, request: Request) -> bool:
        """Whether the request can never run."""
        to_compute = request.input_tokens - request.cached_tokens
        if self.cell.dispatch.whole_prompts and to_compute > self.cell.max_num_batched_tokens:
            return True
        length = request.input_tokens + (0 if self.cell.embed else request.output_tokens)
        kv_tokens = request.input_tokens + request.output_tokens - 1
        return length > self.cell.max_model_len or self.blocks(kv_tokens) > self.cell.kv_blocks

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return ceil(tokens / self.cell.block_tokens)

    def route(self) -> Replica:
        """The replica of a request that arrives now."""
        self.turn += 1
        if self.cell.router is Router.ROUND_ROBIN:
            return self.replicas[(self.turn - 1) % self.cell.copies]
        if self.cell.router is Router.LEAST_LOADED:
            return min(self.replicas, key=lambda replica: replica.unfinished)
        return max(self.replicas, key=self.freeness)

    def freeness(self, replica: Replica) -> float:
        """Llumnix' freeness (see Router.LEAST_KV)."""
        queued = sum(self.blocks(r.known) for r in (*replica.waiting, *replica.front))
        return (self.cell.kv_blocks - replica.used_blocks - queued) / max(1, len(replica.running))

    def enter(self, request: Request, replica: Replica, now: float) -> None:
        """The request joins the front end, a serial first-come-first-served server."""
        table = self.cell.table
        cost_s = table.front_end_request_s + table.front_end_input_token_s * request.input_tokens
        if not self.cell.embed:
            cost_s += table.front_end_output_token_s * request.output_tokens
        replica.front_free_s = max(replica.front_free_s, now) + cost_s
        request.visible_s = replica.front_free_s
        request.replica = replica.index
        request.computed = request.cached_tokens
        replica.front.append(request)
        self.push(request.visible_s, Kind.VISIBLE, replica.index)

    def plan_start(self, replica: Replica, now: float) -> None:
        """Plan the next start if there may be something to schedule and room in the pipeline."""
        if replica.planned_start_s is not None or replica.stalled or len(replica.in_flight) == self.cell.table.stages:
            return
        if replica.waiting or any(not r.sampling for r in replica.running):
            replica.planned_start_s = max(now, replica.stage_free_s[0])
            self.push(replica.planned_start_s, Kind.START, replica.index)

    def start_step(self, replica: Replica, now: float) -> None:
        """Schedule a step and send it down the pipeline."""
        step = self.schedule(replica, now)
        if step.tokens == 0:
            replica.stalled = True
            assert replica.in_flight, "waiting requests, nothing in flight, and nothing to schedule"
            return
        for request in step.samplers:
            request.sampling = True
        stage_s, parts = step_s(self.cell.table, step, 0 if self.cell.embed else len(step.samplers))
        for component, seconds in parts.items():
            self.component_s[component] += seconds
        self.steps += 1
        self.peak_blocks = max(self.peak_blocks, replica.used_blocks)
        replica.last_start_s = now
        replica.in_flight.append(step)
        at = now
        for stage in range(self.cell.table.stages):
            if stage > 0:
                at += self.cell.table.send_s_per_token * step.tokens
            at = max(at, replica.stage_free_s[stage]) + stage_s
            replica.stage_free_s[stage] = at
        self.push(at, Kind.END, replica.index)

    def schedule(self, replica: Replica, now: float) -> Step:
        """What the next step holds."""
        seen_s = self.seen_s(replica, now)
        if self.cell.dispatch.prompts_apart:
            step, preempted = self.schedule_running(replica, first=self.decoding(replica))
            if not preempted:
                self.admit(replica, step, seen_s)
            if step.tokens == 0:
                step, again = self.schedule_running(replica)
                preempted = preempted or again
        else:
            step, preempted = self.schedule_running(replica)
            if not preempted and not self.waits(replica, step, seen_s):
                self.admit(replica, step, seen_s)
        if step.tokens == 0 and not preempted:
            replica.polled_s = now
            self.admit(replica, step, now)
        if step.chunks and self.polls:
            # A step with prompts is followed by a look for new requests.
            replica.since = self.cell.dispatch.poll_steps
        return step

    @property
    def polls(self) -> bool:
        """Whether new requests are looked for only now and then."""
        return self.cell.dispatch.poll_steps > 1

    def decoding(self, replica: Replica) -> int:
        """How many running requests decode: all but the last one, whose prompt may be unfinished."""
        unfinished = bool(replica.running) and not replica.running[-1].decoding
        return len(replica.running) - unfinished

    def seen_s(self, replica: Replica, now: float) -> float:
        """Until when a request must have left the front end for this step to see it."""
        seen_s = replica.last_start_s if self.cell.table.schedule_lag_steps == 1 else now
        if not self.polls:
            return seen_s
        replica.since += 1
        if replica.since >= self.cell.dispatch.poll_steps or not replica.running:
            replica.since = 0
            replica.polled_s = seen_s
        return replica.polled_s

    def waits(self, replica: Replica, step: Step, seen_s: float) -> bool:
        """Whether the prompts that could join the step's decodes wait for more of them."""
        dispatch = self.cell.dispatch
        if dispatch.wait_steps == 0 or step.tokens == 0:
            return False
        tokens, seats = step.tokens, self.cell.max_num_seqs - len(replica.running)
        for request in list(replica.waiting)[: max(0, seats)]:
            more = request.known - request.computed
            if request.visible_s > seen_s or tokens + more > self.cell.max_num_batched_tokens:
                break
            tokens += more
        if tokens == step.tokens:
            return False
        if replica.since >= dispatch.wait_steps or tokens >= ceil(
            dispatch.wait_fraction * self.cell.max_num_batched_tokens
        ):
            replica.since = 0
            return False
        replica.since += 1
        return True

    def schedule_running(self, replica: Replica, first: int = 0) -> tuple[Step, bool]:
        """A step with the running requests from the `first` one on, and whether one was preempted."""
        step = Step()
        preempted = False
        position = first
        while position < len(replica.running) and step.tokens < self.cell.max_num_batched_tokens:
            request = replica.running[position]
            position += 1
            if request.sampling:
                continue
            tokens = min(request.known - request.computed, self.cell.max_num_batched_tokens - step.tokens)
            while not self.allocate(replica, request, tokens):
                victim = replica.running.pop()
                self.preempt(replica, victim)
                preempted = True
                if victim is request:
                    return step, True
            self.take(step, request, tokens)
        return step, preempted

    def admit(self, replica: Replica, step: Step, seen_s: float) -> None:
        """Take waiting requests, visible by `seen_s`, into the step while seats, tokens and blocks last."""
        while replica.waiting and step.tokens < self.cell.max_num_batched_tokens:
            request = replica.waiting[0]
            if len(replica.running) == self.cell.max_num_seqs or request.visible_s > seen_s or request.sampling:
                return
            tokens = min(request.known - request.computed, self.cell.max_num_batched_tokens - step.tokens)
            if self.cell.dispatch.whole_prompts and tokens < request.known - request.computed:
                return
            if not self.allocate(replica, request, tokens, starts=True):
                return
            replica.running.append(replica.waiting.popleft())
            self.take(step, request, tokens)

    def allocate(self, replica: Replica, request: Request, tokens: int, starts: bool = False) -> bool:
        """Give the request the blocks for so many more tokens, if they are there; or for all that it will need."""
        held = request.computed + tokens
        if starts and self.cell.dispatch.reserves_output:
            held = request.input_tokens + request.output_tokens - 1
        more = max(0, self.blocks(held) - request.blocks)
        if more > self.cell.kv_blocks - replica.used_blocks:
            return False
        request.blocks += more
        return True

    def take(self, step: Step, request: Request, tokens: int) -> None:
        """Put tokens of the request into the step."""
        # A decode computes the token sampled last; everything else, recomputing included, is a piece of prompt.
        if request.decoding:
            step.decodes.append(request.known)
        else:
            step.chunks.append((request.computed, tokens))
        request.computed += tokens
        if request.computed == request.known:
            request.decoding = True
            step.samplers.append(request)

    def preempt(self, replica: Replica, request: Request) -> None:
        """The request loses its KV and waits at the front, to be computed again."""
        request.blocks = 0
        request.computed = 0
        request.decoding = False
        request.preemptions += 1
        replica.waiting.appendleft(request)

    def end_step(self, replica: Replica, now: float) -> None:
        """The oldest step in flight ends: its requests get their tokens."""
        replica.stalled = False
        for request in replica.in_flight.popleft().samplers:
            request.sampling = False
            request.generated += 1
            if request.first_token_s is None:
                request.first_token_s = now + self.cell.table.client_s
            if request.generated == request.output_tokens:
                self.finish(replica, request, now)

    def finish(self, replica: Replica, request: Request, now: float) -> None:
        """The request leaves, wherever it is; its client sends the next one."""
        request.end_s = now + self.cell.table.client_s
        (replica.running if request in replica.running else replica.waiting).remove(request)
        if self.closed:
            self.push(request.end_s, Kind.ARRIVAL, 0)

    def outcome(self) -> Outcome:
        """What the requests saw."""
        served = [r.end_s is not None for r in self.requests]
        e2e = [np.nan if r.end_s is None else r.end_s - r.arrival_s for r in self.requests]
        ttft = [
            np.nan if r.end_s is None or r.first_token_s is None else r.first_token_s - r.arrival_s
            for r in self.requests
        ]
        tpot = [
            (last - first) / (r.output_tokens - 1) if r.output_tokens > 1 else np.nan
            for r, first, last in zip(self.requests, ttft, e2e, strict=True)
        ]
        return Outcome(
            arrival_s=np.array([r.arrival_s for r in self.requests]),
            ttft_s=np.array(ttft),
            e2e_s=np.array(e2e),
            tpot_s=np.array(tpot),
            served=np.array(served, dtype=np.bool_),
            replica=np.array([r.replica for r in self.requests], dtype=np.int64),
            request_preemptions=np.array([r.preemptions for r in self.requests], dtype=np.int64),
            component_s=np.array([self.component_s[c] for c in Component]),
            busy_s=sum(self.component_s.values()),
            steps=self.steps,
            kv_peak_fraction=self.peak_blocks / self.cell.kv_blocks,
        )
