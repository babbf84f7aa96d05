"""LLM replicas step by step, compiled: vLLM's V1 scheduler over a step table, and how other engines differ from it
(`simulate_types.Dispatch`). `simulate_reference` does it slowly.

A replica keeps its running requests in *lanes* (one int32 row a quantity, in running order), so that the decodes of a
step are a few vector instructions. Only the last lane can hold a prompt that is not yet fully scheduled: a prompt is
cut only where the token budget ends, and nothing is admitted after it.

Events at equal times: step ends, then arrivals, then step starts; among replicas the lowest index. A request is
visible to a step that starts at the very time at which it left the front end.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planner.simulate_types import FloatArray, IntArray
from planner.step_lookup_kernel import decode_attention_s, dense_s, prefill_attention_s

# Columns of the request integers (one cache line a request). NEXT: of the waiting list; PENDING: slot of a step that
# still samples for a request that was preempted meanwhile, else −1.
INPUT, OUTPUT, CACHED, GENERATED, NEXT, REPLICA, PREEMPTED, PENDING = range(8)
REQUEST_INTS = 8
# Columns of the request times. FREED of row k: when the k-th request that ended did so at its client.
ARRIVAL, VISIBLE, TTFT, E2E, FREED = range(5)
REQUEST_TIMES = 5
# Rows of the lanes. ROOM: tokens that still fit the blocks held; LEFT: tokens still to sample; CONTEXT: KV tokens that
# the next decode attends to (tokens scheduled + 1); FLIGHT: slot of the step that samples for the lane, else −1;
# FIRST: 1 while that step's token is the request's first.
REQUEST, ROOM, LEFT, CONTEXT, FLIGHT, FIRST = range(6)
LANE_ROWS = 6
# Columns of a replica's integers. READY: lanes not in flight; PARTIAL: 1 when the last lane's prompt is unfinished;
# HEAD, TAIL: the waiting list, front end included; USED: blocks held; QUEUED: blocks that the waiting ones need;
# FLIGHTS, OLDEST: steps in flight, slot of the first; PENDERS: waiting requests with a PENDING step; STALLED: 1 when
# a start found nothing to schedule, until a step ends; SINCE: steps since new requests were looked for, or steps that
# prompts have waited.
RUNNING, READY, PARTIAL, HEAD, TAIL, USED, QUEUED, UNFINISHED, FLIGHTS, OLDEST, PENDERS, STALLED, SINCE = range(13)
REPLICA_INTS = 13
# Columns of a replica's times; then `stages` times when each stage is free; then `stages` ends of the steps in flight.
# NEXT_EVENT: as the router last saw it. POLLED: when new requests were last looked for.
CLOCK, LAST_START, FRONT_FREE, NEXT_EVENT, POLLED = range(5)
REPLICA_TIMES = 5
# Settings of the cell; from WHOLE on those of its dispatch.
KV_BLOCKS, BLOCK, SEATS, BUDGET, EMBED, STAGES, LAG, MAX_LEN, ROUTER = range(9)
WHOLE, APART, RESERVES, POLL_STEPS, WAIT_STEPS, WAIT_TOKENS = range(9, 15)
# Scalars of the step table.
OVERHEAD_S, PREFILL_FACTOR, FLOOR_S, SEND_S, FRONT_S, FRONT_IN_S, FRONT_OUT_S, CLIENT_S = range(8)
# Totals: first the components, in the order of step_table.Component.
LINEAR, DECODE, PREFILL, SAMPLING, ENGINE, BUSY, STEPS, PEAK, FAILED = range(9)
TOTALS = 9
# Values of simulate_types.Router.
ROUND_ROBIN, LEAST_LOADED = range(2)

# The parts of the loop allocate nothing: their arrays belong to `simulate_llm`, and counting references would cost most
# of the speed. numba refuses to compile an allocation under `_nrt=False`. What runs every step is inlined by order: a
# call hands over all arrays. (One `njit(...)` object used twice would lose its options.)
LEAN = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
INLINED = {**LEAN, "forceinline": True}

LaneArray = NDArray[np.int32]
Tables = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


class Run(NamedTuple):
    """All of one simulation. `tables`: seconds of linear, decode attention, prefill attention, sampling.

    `ended[0]`: how many requests have ended. Shapes: requests (n, REQUEST_INTS), times (n, REQUEST_TIMES), lanes
    (copies, LANE_ROWS, seats), replicas (copies, REPLICA_INTS), clocks (copies, REPLICA_TIMES + 2 stages), totals
    (TOTALS,).
    """

    settings: IntArray
    scalars: FloatArray
    tables: Tables
    requests: IntArray
    times: FloatArray
    lanes: LaneArray
    replicas: IntArray
    clocks: FloatArray
    totals: FloatArray
    ended: IntArray


@njit(**LEAN)
def _blocks(tokens: int, block_tokens: int) -> int:
    return (tokens + block_tokens - 1) // block_tokens


@njit(**INLINED)
def _next_event(run: Run, rep: int) -> tuple[float, int]:
    """(time, 1 for a step start or 0 for a step end) of what the replica does next; time inf when nothing."""
    me, clock = run.replicas[rep], run.clocks[rep]
    stages = run.settings[STAGES]
    end = np.inf
    start = np.inf
    if me[FLIGHTS] > 0:
        end = clock[REPLICA_TIMES + stages + me[OLDEST]]
    if me[FLIGHTS] < stages and me[STALLED] == 0:
        free = max(clock[REPLICA_TIMES], clock[CLOCK])
        if me[READY] > 0:
            start = free
        elif me[HEAD] >= 0:
            start = max(free, run.times[me[HEAD], VISIBLE])
    if end <= start:
        return end, 0
    return start, 1


@njit(**INLINED)
def _token_arrives(run: Run, rep: int, r: int, now: float, is_first: bool, is_last: bool) -> None:
    """The client's view of a token: the first one sets TTFT, the last one ends the request."""
    since = run.times[r, ARRIVAL] - run.scalars[CLIENT_S]
    if is_first:
        run.times[r, TTFT] = now - since
    if is_last:
        run.times[r, E2E] = now - since
        run.replicas[rep, UNFINISHED] -= 1
        run.times[run.ended[0], FREED] = now + run.scalars[CLIENT_S]
        run.ended[0] += 1


@njit(**INLINED)
def _end_step(run: Run, rep: int) -> None:
    """The oldest step in flight ends: its requests get their tokens, finished ones leave."""
    me, clock, lanes = run.replicas[rep], run.clocks[rep], run.lanes[rep]
    stages = run.settings[STAGES]
    slot = me[OLDEST]
    now = clock[REPLICA_TIMES + stages + slot]
    clock[CLOCK] = now
    me[OLDEST] = (slot + 1) % stages
    me[FLIGHTS] -= 1
    me[STALLED] = 0
    left, flight, first = lanes[LEFT], lanes[FLIGHT], lanes[FIRST]
    landed = np.int64(0)
    special = np.int64(0)
    this = np.int32(slot)
    for i in range(me[RUNNING]):
        mine = np.int32(flight[i] == this)
        flight[i] -= mine * (this + 1)
        left[i] -= mine
        landed += mine
        special += mine & (first[i] | np.int32(left[i] == 0))
    me[READY] += landed
    if special > 0:
        _first_and_last(run, rep, now)
    if me[PENDERS] > 0:
        _land_preempted(run, rep, slot, now)


@njit(**LEAN)
def _first_and_last(run: Run, rep: int, now: float) -> None:
    """Note the first tokens of a step that ended, and take the finished requests out of the lanes."""
    me, lanes = run.replicas[rep], run.lanes[rep]
    kept = 0
    for i in range(me[RUNNING]):
        if lanes[FLIGHT, i] < 0 and (lanes[FIRST, i] == 1 or lanes[LEFT, i] == 0):
            done = lanes[LEFT, i] == 0
            _token_arrives(run, rep, lanes[REQUEST, i], now, lanes[FIRST, i] == 1, done)
            lanes[FIRST, i] = 0
            if done:
                me[USED] -= (lanes[CONTEXT, i] - 1 + lanes[ROOM, i]) // run.settings[BLOCK]
                me[READY] -= 1
                continue
        if kept < i:
            for row in range(LANE_ROWS):
                lanes[row, kept] = lanes[row, i]
        kept += 1
    me[RUNNING] = kept


@njit(**LEAN)
def _land_preempted(run: Run, rep: int, slot: int, now: float) -> None:
    """Requests that were preempted while this step sampled for them get its token where they wait."""
    me, requests = run.replicas[rep], run.requests
    block = run.settings[BLOCK]
    before = -1
    r = me[HEAD]
    while r >= 0 and me[PENDERS] > 0:
        after = requests[r, NEXT]
        if requests[r, PENDING] == slot:
            requests[r, PENDING] = -1
            me[PENDERS] -= 1
            tokens = requests[r, INPUT] + requests[r, GENERATED]
            me[QUEUED] -= _blocks(tokens, block)
            requests[r, GENERATED] += 1
            done = requests[r, GENERATED] == requests[r, OUTPUT]
            _token_arrives(run, rep, r, now, requests[r, GENERATED] == 1, done)
            if done:
                if before >= 0:
                    requests[before, NEXT] = after
                else:
                    me[HEAD] = after
                if after < 0:
                    me[TAIL] = before
                r = after
                continue
            me[QUEUED] += _blocks(tokens + 1, block)
        before = r
        r = after


@njit(**LEAN)
def _preempt_last(run: Run, rep: int) -> None:
    """The last running request loses its blocks and goes to the front of the waiting ones, to be recomputed."""
    me, lanes, requests = run.replicas[rep], run.lanes[rep], run.requests
    block = run.settings[BLOCK]
    last = me[RUNNING] - 1
    r = lanes[REQUEST, last]
    me[USED] -= (lanes[CONTEXT, last] - 1 + lanes[ROOM, last]) // block
    requests[r, GENERATED] = requests[r, OUTPUT] - lanes[LEFT, last]
    requests[r, CACHED] = 0
    requests[r, PREEMPTED] += 1
    requests[r, PENDING] = lanes[FLIGHT, last]
    if lanes[FLIGHT, last] >= 0:
        me[PENDERS] += 1
    else:
        me[READY] -= 1
    requests[r, NEXT] = me[HEAD]
    if me[HEAD] < 0:
        me[TAIL] = r
    me[HEAD] = r
    me[QUEUED] += _blocks(requests[r, INPUT] + requests[r, GENERATED], block)
    me[RUNNING] = last
    me[PARTIAL] = 0


@njit(**INLINED)
def _decode_all(run: Run, rep: int, slot: int) -> tuple[int, int]:
    """(sequences, KV tokens) of a step's decodes when every new block is there; (−1, 0), nothing done, when not."""
    me, lanes = run.replicas[rep], run.lanes[rep]
    room, context, flight = lanes[ROOM], lanes[CONTEXT], lanes[FLIGHT]
    count = me[RUNNING] - me[PARTIAL]
    free = run.settings[KV_BLOCKS] - me[USED]
    if free < count:
        needed = np.int64(0)
        for i in range(count):
            needed += np.int32(flight[i] < 0) & np.int32(room[i] == 0)
        if needed > free:
            return -1, 0
    block = np.int32(run.settings[BLOCK])
    landing = np.int32(slot + 1)
    sequences = np.int64(0)
    tokens = np.int64(0)
    opened = np.int64(0)
    for i in range(count):
        ready = np.int32(flight[i] < 0)
        new = ready & np.int32(room[i] == 0)
        opened += new
        sequences += ready
        tokens += ready * context[i]
        room[i] += new * block - ready
        context[i] += ready
        flight[i] += ready * landing
    me[USED] += opened
    me[READY] -= sequences
    return int(sequences), int(tokens)


@njit(**LEAN)
def _decode_in_order(run: Run, rep: int, slot: int) -> tuple[int, int]:
    """(sequences, KV tokens) of a step's decodes when blocks are short: in order, preempting from the tail."""
    me, lanes = run.replicas[rep], run.lanes[rep]
    kv_blocks = run.settings[KV_BLOCKS]
    sequences = 0
    tokens = 0
    i = 0
    while i < me[RUNNING] - me[PARTIAL]:
        if lanes[FLIGHT, i] >= 0:
            i += 1
            continue
        if lanes[ROOM, i] == 0:
            while me[USED] == kv_blocks and me[RUNNING] > i:
                _preempt_last(run, rep)
            if me[RUNNING] == i:
                break
            me[USED] += 1
            lanes[ROOM, i] = run.settings[BLOCK]
        tokens += lanes[CONTEXT, i]
        sequences += 1
        lanes[ROOM, i] -= 1
        lanes[CONTEXT, i] += 1
        lanes[FLIGHT, i] = slot
        me[READY] -= 1
        i += 1
    return sequences, tokens


@njit(**INLINED)
def _chunk_attention_s(run: Run, done: int, chunk: int) -> float:
    """Seconds of prefill attention of `chunk` tokens after `done`."""
    prefill_s = run.tables[2]
    return prefill_attention_s(prefill_s, float(done + chunk)) - prefill_attention_s(prefill_s, float(done))


@njit(**INLINED)
def _continue_prompt(run: Run, rep: int, slot: int, budget: int) -> tuple[int, int, float]:
    """(tokens, 1 if they end the prompt, attention seconds) of the last lane's next chunk; no tokens: preempted."""
    me, lanes, requests = run.replicas[rep], run.lanes[rep], run.requests
    last = me[RUNNING] - 1
    r = lanes[REQUEST, last]
    done = lanes[CONTEXT, last] - 1
    remaining = requests[r, INPUT] + requests[r, OUTPUT] - lanes[LEFT, last] - done
    chunk = min(remaining, budget)
    opened = _blocks(max(chunk - lanes[ROOM, last], 0), run.settings[BLOCK])
    if opened > run.settings[KV_BLOCKS] - me[USED]:
        _preempt_last(run, rep)
        return 0, 0, 0.0
    me[USED] += opened
    lanes[ROOM, last] += opened * run.settings[BLOCK] - chunk
    lanes[CONTEXT, last] += chunk
    ended = 0
    if chunk == remaining:
        ended = 1
        lanes[FLIGHT, last] = slot
        lanes[FIRST, last] = 1 if lanes[LEFT, last] == requests[r, OUTPUT] else 0
        me[PARTIAL] = 0
        me[READY] -= 1
    return chunk, ended, _chunk_attention_s(run, done, chunk)


@njit(**INLINED)
def _admit(run: Run, rep: int, slot: int, budget: int, seen_s: float) -> tuple[int, int, int, float]:
    """(tokens, prompts ended, chunks, attention seconds) of requests, visible by `seen_s`, that the step takes in."""
    me, lanes, requests = run.replicas[rep], run.lanes[rep], run.requests
    block = run.settings[BLOCK]
    tokens = 0
    ended = 0
    chunks = 0
    attention_s = 0.0
    while me[HEAD] >= 0 and tokens < budget and me[RUNNING] < run.settings[SEATS]:
        r = me[HEAD]
        if run.times[r, VISIBLE] > seen_s or requests[r, PENDING] >= 0:
            break
        done = requests[r, CACHED]
        total = requests[r, INPUT] + requests[r, GENERATED]
        chunk = min(total - done, budget - tokens)
        if chunk < total - done and run.settings[WHOLE] == 1:
            break
        opened = _blocks(done + chunk, block)
        if run.settings[RESERVES] == 1:
            opened = _blocks(requests[r, INPUT] + requests[r, OUTPUT] - 1, block)
        if opened > run.settings[KV_BLOCKS] - me[USED]:
            break
        me[HEAD] = requests[r, NEXT]
        if me[HEAD] < 0:
            me[TAIL] = -1
        me[QUEUED] -= _blocks(total, block)
        me[USED] += opened
        lane = me[RUNNING]
        me[RUNNING] += 1
        lanes[REQUEST, lane] = r
        lanes[ROOM, lane] = opened * block - done - chunk
        lanes[LEFT, lane] = requests[r, OUTPUT] - requests[r, GENERATED]
        lanes[CONTEXT, lane] = done + chunk + 1
        if done + chunk == total:
            lanes[FLIGHT, lane] = slot
            lanes[FIRST, lane] = 1 if requests[r, GENERATED] == 0 else 0
            ended += 1
        else:
            lanes[FLIGHT, lane] = -1
            lanes[FIRST, lane] = 0
            me[PARTIAL] = 1
            me[READY] += 1
        tokens += chunk
        chunks += 1
        attention_s += _chunk_attention_s(run, done, chunk)
    return tokens, ended, chunks, attention_s


@njit(**INLINED)
def _decodes(run: Run, rep: int, slot: int) -> tuple[int, int, bool]:
    """(sequences, KV tokens, whether blocks were short) of a step's decodes."""
    sequences, kv_tokens = _decode_all(run, rep, slot)
    if sequences >= 0:
        return sequences, kv_tokens, False
    sequences, kv_tokens = _decode_in_order(run, rep, slot)
    return sequences, kv_tokens, True


@njit(**INLINED)
def _seen_s(run: Run, rep: int, now: float) -> float:
    """Until when a request must have left the front end for a step that starts now to see it."""
    me, clock = run.replicas[rep], run.clocks[rep]
    seen_s = now if run.settings[LAG] == 0 else clock[LAST_START]
    if run.settings[POLL_STEPS] <= 1:
        return float(seen_s)
    me[SINCE] += 1
    if me[SINCE] >= run.settings[POLL_STEPS] or me[RUNNING] == 0:
        me[SINCE] = 0
        clock[POLLED] = seen_s
    return float(clock[POLLED])


@njit(**INLINED)
def _waits(run: Run, rep: int, scheduled: int, seen_s: float) -> bool:
    """Whether the prompts that could join the step's decodes wait for more of them."""
    me, settings = run.replicas[rep], run.settings
    if settings[WAIT_STEPS] == 0 or settings[APART] == 1 or scheduled == 0:
        return False
    tokens = scheduled
    seats = settings[SEATS] - me[RUNNING]
    r = me[HEAD]
    while r >= 0 and seats > 0 and run.times[r, VISIBLE] <= seen_s:
        more = run.requests[r, INPUT] + run.requests[r, GENERATED] - run.requests[r, CACHED]
        if tokens + more > settings[BUDGET]:
            break
        tokens += more
        seats -= 1
        r = run.requests[r, NEXT]
    if tokens == scheduled:
        return False
    if me[SINCE] >= settings[WAIT_STEPS] or tokens >= settings[WAIT_TOKENS]:
        me[SINCE] = 0
        return False
    me[SINCE] += 1
    return True


@njit(**INLINED)
def _start_step(run: Run, rep: int, now: float) -> None:
    """Schedule and launch a step, or note that there is nothing to schedule before a step ends."""
    me, clock, settings = run.replicas[rep], run.clocks[rep], run.settings
    clock[CLOCK] = now
    slot = (me[OLDEST] + me[FLIGHTS]) % settings[STAGES]
    seen_s = _seen_s(run, rep, now)
    sequences = 0
    kv_tokens = 0
    preempted = False
    if settings[APART] == 0:
        sequences, kv_tokens, preempted = _decodes(run, rep, slot)
    tokens = sequences
    samples = sequences
    chunks = 0
    attention_s = 0.0
    if me[PARTIAL] == 1:
        tokens_more, samples_more, attention_s = _continue_prompt(run, rep, slot, settings[BUDGET] - tokens)
        tokens += tokens_more
        samples += samples_more
        chunks = 1 if tokens_more > 0 else 0
        preempted = tokens_more == 0
    while not preempted and me[HEAD] >= 0 and not _waits(run, rep, tokens, seen_s):
        tokens_more, samples_more, chunks_more, seconds = _admit(run, rep, slot, settings[BUDGET] - tokens, seen_s)
        tokens += tokens_more
        samples += samples_more
        chunks += chunks_more
        attention_s += seconds
        # A step that would be empty takes no time: whoever is visible now enters this one.
        if tokens > 0 or seen_s >= now or (settings[APART] == 1 and me[READY] > 0):
            break
        seen_s = now
        clock[POLLED] = now
    if settings[APART] == 1 and tokens == 0:
        sequences, kv_tokens, _ = _decodes(run, rep, slot)
        tokens = sequences
        samples = sequences
    if chunks > 0 and settings[POLL_STEPS] > 1:
        # A step with prompts is followed by a look for new requests.
        me[SINCE] = settings[POLL_STEPS]
    if tokens == 0:
        me[STALLED] = 1
        if me[FLIGHTS] == 0:
            run.totals[FAILED] = 1.0
        return
    if settings[EMBED] == 1:
        samples = 0
    stage_s = _stage_s(run, tokens, sequences, kv_tokens, chunks, attention_s, samples)
    run.totals[PEAK] = max(run.totals[PEAK], float(me[USED]))
    clock[LAST_START] = now
    me[FLIGHTS] += 1
    # Stages serve the batches in order: a short step behind a long one waits for it.
    at = now
    for stage in range(settings[STAGES]):
        if stage > 0:
            at += run.scalars[SEND_S] * tokens
        at = max(at, clock[REPLICA_TIMES + stage]) + stage_s
        clock[REPLICA_TIMES + stage] = at
    clock[REPLICA_TIMES + settings[STAGES] + slot] = at


@njit(**INLINED)
def _stage_s(
    run: Run, tokens: int, sequences: int, kv_tokens: int, chunks: int, attention_s: float, samples: int
) -> float:
    """Seconds of a step on one stage (formula of profiles.step_table), added to the totals part by part."""
    linear_s, decode_s, _, sampling_s = run.tables
    scalars, totals = run.scalars, run.totals
    factor = scalars[PREFILL_FACTOR] if chunks > 0 else 1.0
    linear = factor * dense_s(linear_s, float(tokens))
    decode = decode_attention_s(decode_s, float(sequences), float(kv_tokens))
    prefill = factor * attention_s
    sampling = dense_s(sampling_s, float(samples))
    engine = scalars[OVERHEAD_S]
    stage_s = linear + decode + prefill + sampling + engine
    if chunks > 0 and stage_s < scalars[FLOOR_S]:
        engine += scalars[FLOOR_S] - stage_s
        stage_s = scalars[FLOOR_S]
    totals[LINEAR] += linear
    totals[DECODE] += decode
    totals[PREFILL] += prefill
    totals[SAMPLING] += sampling
    totals[ENGINE] += engine
    totals[BUSY] += stage_s
    totals[STEPS] += 1.0
    return stage_s


@njit(**LEAN)
def _route(run: Run, turn: int) -> int:
    """The replica of a request that arrives now."""
    replicas = run.replicas
    copies = replicas.shape[0]
    best = 0
    if run.settings[ROUTER] == ROUND_ROBIN:
        return turn % copies
    if run.settings[ROUTER] == LEAST_LOADED:
        for rep in range(1, copies):
            if replicas[rep, UNFINISHED] < replicas[best, UNFINISHED]:
                best = rep
        return best
    most = -np.inf
    for rep in range(copies):
        room = run.settings[KV_BLOCKS] - replicas[rep, USED] - replicas[rep, QUEUED]
        freeness = room / max(1, replicas[rep, RUNNING])
        if freeness > most:
            most = freeness
            best = rep
    return best


@njit(**INLINED)
def _enter(run: Run, rep: int, r: int, now: float) -> None:
    """The request joins the front end of its replica; it becomes visible to the scheduler when it leaves it."""
    me, clock, scalars, requests = run.replicas[rep], run.clocks[rep], run.scalars, run.requests
    requests[r, REPLICA] = rep
    cost_s = scalars[FRONT_S] + scalars[FRONT_IN_S] * requests[r, INPUT] + scalars[FRONT_OUT_S] * requests[r, OUTPUT]
    clock[FRONT_FREE] = max(clock[FRONT_FREE], now) + cost_s
    run.times[r, VISIBLE] = clock[FRONT_FREE]
    if me[TAIL] >= 0:
        requests[me[TAIL], NEXT] = r
    else:
        me[HEAD] = r
    me[TAIL] = r
    me[UNFINISHED] += 1
    me[QUEUED] += _blocks(requests[r, INPUT], run.settings[BLOCK])


@njit(**LEAN)
def _advance(run: Run, rep: int, until: float) -> float:
    """Let a replica do what precedes an arrival at `until` (ends up to it, starts before it); the next event's time."""
    while True:
        at, is_start = _next_event(run, rep)
        if at > until or (is_start == 1 and at >= until) or at == np.inf:
            return at
        if is_start == 1:
            _start_step(run, rep, at)
        else:
            _end_step(run, rep)


@njit(**LEAN)
def _rejected(run: Run, r: int) -> bool:
    """Whether a request can never run: too long for the model, or for the replica's memory."""
    settings = run.settings
    if settings[WHOLE] == 1 and run.requests[r, INPUT] - run.requests[r, CACHED] > settings[BUDGET]:
        return True
    longest = run.requests[r, INPUT] + run.requests[r, OUTPUT]
    # Every token but the last one sampled leaves KV behind.
    too_big = _blocks(longest - 1, settings[BLOCK]) > settings[KV_BLOCKS]
    # A request that samples nothing needs no place for it.
    return too_big or longest - settings[EMBED] > settings[MAX_LEN]


@njit(**LEAN)
def _open_loop(run: Run, horizon_s: float) -> None:
    """Requests arrive at their times; replicas catch up when the router needs to know, and at the end."""
    copies = run.replicas.shape[0]
    looks = run.settings[ROUTER] != ROUND_ROBIN
    run.clocks[:, NEXT_EVENT] = np.inf
    turn = 0
    for r in range(run.requests.shape[0]):
        now = run.times[r, ARRIVAL]
        if now > horizon_s or run.totals[FAILED] > 0.0:
            break
        if _rejected(run, r):
            continue
        if looks:
            for rep in range(copies):
                if run.clocks[rep, NEXT_EVENT] <= now:
                    run.clocks[rep, NEXT_EVENT] = _advance(run, rep, now)
        which = _route(run, turn)
        turn += 1
        if not looks:
            _advance(run, which, now)
        _enter(run, which, r, now)
        run.clocks[which, NEXT_EVENT] = _next_event(run, which)[0]
    for rep in range(copies):
        _advance(run, rep, horizon_s)


@njit(**LEAN)
def _closed_loop(run: Run, start_s: FloatArray, horizon_s: float) -> None:
    """Requests arrive when clients start or become free. An end may bring an arrival: one event at a time."""
    copies = run.replicas.shape[0]
    count = run.requests.shape[0]
    started = 0
    freed = 0
    turn = 0
    r = 0
    while run.totals[FAILED] == 0.0:
        arrival = np.inf
        if r < count:
            if started < start_s.shape[0]:
                arrival = start_s[started]
            if freed < run.ended[0]:
                arrival = min(arrival, run.times[freed, FREED])
        soonest = np.inf
        kind = 0
        which = -1
        for rep in range(copies):
            at, is_start = _next_event(run, rep)
            if at < soonest or (at == soonest and is_start < kind):
                soonest = at
                kind = is_start
                which = rep
        if which >= 0 and (soonest < arrival or (soonest == arrival and kind == 0)):
            if soonest > horizon_s or (kind == 1 and soonest >= horizon_s):
                break
            if kind == 1:
                _start_step(run, which, soonest)
            else:
                _end_step(run, which)
            continue
        if arrival > horizon_s or arrival == np.inf:
            break
        if started < start_s.shape[0] and start_s[started] == arrival:
            started += 1
        else:
            freed += 1
        # The client of a rejected request sends the next one at once.
        while r < count:
            run.times[r, ARRIVAL] = arrival
            r += 1
            if not _rejected(run, r - 1):
                which = _route(run, turn)
                turn += 1
                _enter(run, which, r - 1, arrival)
                break


@njit(cache=True, nogil=True)
def simulate_llm(
    settings: IntArray,
    scalars: FloatArray,
    tables: Tables,
    requests: IntArray,
    times: FloatArray,
    start_s: FloatArray,
    copies: int,
    horizon_s: float,
) -> FloatArray:
    """Fill `requests` and `times`; the totals come back. `start_s`: the clients' starts, empty for an open loop."""
    # Allocated here and not by the caller, so that the compiler knows that these arrays do not overlap.
    replicas = np.zeros((copies, REPLICA_INTS), dtype=np.int64)
    replicas[:, HEAD] = -1
    replicas[:, TAIL] = -1
    clocks = np.zeros((copies, REPLICA_TIMES + 2 * settings[STAGES]))
    clocks[:, LAST_START] = -1.0
    clocks[:, POLLED] = -1.0
    run = Run(
        settings,
        scalars,
        tables,
        requests,
        times,
        np.zeros((copies, LANE_ROWS, settings[SEATS]), dtype=np.int32),
        replicas,
        clocks,
        np.zeros(TOTALS),
        np.zeros(1, dtype=np.int64),
    )
    if start_s.shape[0] == 0:
        _open_loop(run, horizon_s)
    else:
        _closed_loop(run, start_s, horizon_s)
    return run.totals
