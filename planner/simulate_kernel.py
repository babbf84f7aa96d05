"""LLM replicas step by step, compiled: vLLM's V1 scheduler over a step table. `simulate_reference` says the same slowly.

A replica keeps its running requests in *lanes* (one int32 row a quantity, in running order), so that the decodes of a step are a few
vector instructions. Only the last lane can hold a prompt that is not yet fully scheduled: a prompt is cut only where
the token budget ends, and nothing is admitted after it.

Events at equal times: step ends, then arrivals, then step starts; among replicas the lowest index. A request is
visible to a step that starts at the very time at which it left the front end.
"""

import math

import numpy as np
from numba import njit

from planner.simulate_types import FloatArray, IntArray
from planner.step_lookup_kernel import decode_attention_s, dense_s, prefill_attention_s

# Columns of the request integers (one cache line a request).
INPUT, OUTPUT, CACHED, GENERATED, NEXT, REPLICA, PREEMPTED, PENDING = range(8)
# Columns of the request times.
ARRIVAL, VISIBLE, TTFT, E2E = range(4)
# Rows of the lanes. ROOM: tokens that still fit the blocks held; LEFT: tokens still to sample; CONTEXT: KV tokens that the
# next decode attends to (tokens scheduled + 1); FLIGHT: slot of the step that samples for the lane, else −1; FIRST: 1 while that
# step's token is the request's first.
REQUEST, ROOM, LEFT, CONTEXT, FLIGHT, FIRST = range(6)
LANE_ROWS = 6
# Columns of a replica's integers. READY: lanes not in flight; PARTIAL: 1 when the last lane's prompt is unfinished; PENDERS:
# requests that were preempted while a step samples for them; STALLED: 1 when a start found nothing, until a step ends.
RUNNING, READY, PARTIAL, HEAD, TAIL, USED, QUEUED, UNFINISHED, FLIGHTS, OLDEST, PENDERS, STALLED = range(12)
REPLICA_INTS = 12
# Columns of a replica's times, then `stages` times when each stage is free, then `stages` ends of the steps in flight.
CLOCK, LAST_START, FRONT_FREE = range(3)
REPLICA_TIMES = 3
# Settings of the cell.
KV_BLOCKS, BLOCK, SEATS, BUDGET, EMBED, STAGES, LAG, MAX_LEN, ROUTER, CLOSED = range(10)
# Scalars of the step table.
OVERHEAD_S, PREFILL_FACTOR, FLOOR_S, SEND_S, FRONT_S, FRONT_IN_S, FRONT_OUT_S, CLIENT_S = range(8)
# Totals: the components first, in the order of step_table.Component.
ENGINE, BUSY, STEPS, PEAK, FAILED = 4, 5, 6, 7, 8
TOTALS = 9
# Cursor of the closed loop: the next client to start, the queue of clients that became free.
NEXT_START, FREE_HEAD, FREE_TAIL = range(3)

ROUND_ROBIN, LEAST_LOADED, LEAST_KV = range(3)


@njit(cache=True, nogil=True)
def _blocks(tokens: int, block_tokens: int) -> int:
    return (tokens + block_tokens - 1) // block_tokens


@njit(cache=True, nogil=True)
def _next_event(replicas, clocks, times, rep, stages):  # type: ignore[no-untyped-def]
    """(time, 1 for a step start or 0 for a step end) of what the replica does next; time inf when nothing."""
    end = np.inf
    start = np.inf
    flights = replicas[rep, FLIGHTS]
    if flights > 0:
        end = clocks[rep, REPLICA_TIMES + stages + replicas[rep, OLDEST]]
    if flights < stages and replicas[rep, STALLED] == 0:
        free = max(clocks[rep, REPLICA_TIMES], clocks[rep, CLOCK])
        head = replicas[rep, HEAD]
        if replicas[rep, READY] > 0:
            start = free
        elif head >= 0:
            start = max(free, times[head, VISIBLE])
    if end <= start:
        return end, 0
    return start, 1


@njit(cache=True, nogil=True)
def _end_step(settings, scalars, requests, times, lanes, replicas, clocks, free_s, cursor, rep):  # type: ignore[no-untyped-def]
    """The oldest step in flight ends: its requests get their tokens, finished ones leave."""
    stages = settings[STAGES]
    slot = replicas[rep, OLDEST]
    now = clocks[rep, REPLICA_TIMES + stages + slot]
    clocks[rep, CLOCK] = now
    replicas[rep, OLDEST] = (slot + 1) % stages
    replicas[rep, FLIGHTS] -= 1
    replicas[rep, STALLED] = 0
    client_s = scalars[CLIENT_S]
    count = replicas[rep, RUNNING]
    request, room, left = lanes[rep, REQUEST], lanes[rep, ROOM], lanes[rep, LEFT]
    context, flight, first = lanes[rep, CONTEXT], lanes[rep, FLIGHT], lanes[rep, FIRST]
    landed = 0
    special = 0
    this = np.int32(slot)
    for i in range(count):
        mine = np.int32(flight[i] == this)
        flight[i] -= mine * (this + 1)
        left[i] -= mine
        landed += mine
        special += mine & (first[i] | np.int32(left[i] == 0))
    replicas[rep, READY] += landed
    if special > 0:
        kept = 0
        for i in range(count):
            if flight[i] < 0:
                r = request[i]
                if first[i] == 1:
                    first[i] = 0
                    times[r, TTFT] = now - times[r, ARRIVAL] + client_s
                if left[i] == 0:
                    times[r, E2E] = now - times[r, ARRIVAL] + client_s
                    replicas[rep, USED] -= (context[i] - 1 + room[i]) // settings[BLOCK]
                    replicas[rep, UNFINISHED] -= 1
                    replicas[rep, READY] -= 1
                    if settings[CLOSED] == 1:
                        free_s[cursor[FREE_TAIL]] = now + client_s
                        cursor[FREE_TAIL] += 1
                    continue
            if kept < i:
                request[kept] = request[i]
                room[kept] = room[i]
                left[kept] = left[i]
                context[kept] = context[i]
                flight[kept] = flight[i]
                first[kept] = first[i]
            kept += 1
        replicas[rep, RUNNING] = kept
    if replicas[rep, PENDERS] > 0:
        _land_preempted(settings, scalars, requests, times, replicas, free_s, cursor, rep, slot, now)


@njit(cache=True, nogil=True)
def _land_preempted(settings, scalars, requests, times, replicas, free_s, cursor, rep, slot, now):  # type: ignore[no-untyped-def]
    """Requests preempted while this step sampled for them get its token where they wait."""
    client_s = scalars[CLIENT_S]
    before = -1
    r = replicas[rep, HEAD]
    while r >= 0 and replicas[rep, PENDERS] > 0:
        after = requests[r, NEXT]
        if requests[r, PENDING] != slot:
            before = r
            r = after
            continue
        requests[r, PENDING] = -1
        replicas[rep, PENDERS] -= 1
        tokens = requests[r, INPUT] + requests[r, GENERATED]
        replicas[rep, QUEUED] -= _blocks(tokens, settings[BLOCK])
        if requests[r, GENERATED] == 0:
            times[r, TTFT] = now - times[r, ARRIVAL] + client_s
        requests[r, GENERATED] += 1
        if requests[r, GENERATED] < requests[r, OUTPUT]:
            replicas[rep, QUEUED] += _blocks(tokens + 1, settings[BLOCK])
            before = r
            r = after
            continue
        times[r, E2E] = now - times[r, ARRIVAL] + client_s
        replicas[rep, UNFINISHED] -= 1
        if settings[CLOSED] == 1:
            free_s[cursor[FREE_TAIL]] = now + client_s
            cursor[FREE_TAIL] += 1
        if before >= 0:
            requests[before, NEXT] = after
        else:
            replicas[rep, HEAD] = after
        if after < 0:
            replicas[rep, TAIL] = before
        r = after


@njit(cache=True, nogil=True)
def _preempt_last(settings, requests, lanes, replicas, rep):  # type: ignore[no-untyped-def]
    """The last running request loses its blocks and goes to the front of the waiting ones, to be recomputed."""
    last = replicas[rep, RUNNING] - 1
    r = lanes[rep, REQUEST, last]
    held = (lanes[rep, CONTEXT, last] - 1 + lanes[rep, ROOM, last]) // settings[BLOCK]
    replicas[rep, USED] -= held
    requests[r, GENERATED] = requests[r, OUTPUT] - lanes[rep, LEFT, last]
    requests[r, CACHED] = 0
    requests[r, PREEMPTED] += 1
    slot = lanes[rep, FLIGHT, last]
    requests[r, PENDING] = slot
    if slot >= 0:
        replicas[rep, PENDERS] += 1
    else:
        replicas[rep, READY] -= 1
    requests[r, NEXT] = replicas[rep, HEAD]
    if replicas[rep, HEAD] < 0:
        replicas[rep, TAIL] = r
    replicas[rep, HEAD] = r
    replicas[rep, QUEUED] += _blocks(requests[r, INPUT] + requests[r, GENERATED], settings[BLOCK])
    replicas[rep, RUNNING] = last
    replicas[rep, PARTIAL] = 0


@njit(cache=True, nogil=True)
def _decode_all(settings, lanes, replicas, rep, slot):  # type: ignore[no-untyped-def]
    """(sequences, KV tokens) of a step's decodes when every new block is there; (−1, 0), and nothing done, when not."""
    count = replicas[rep, RUNNING] - replicas[rep, PARTIAL]
    room, context, flight = lanes[rep, ROOM], lanes[rep, CONTEXT], lanes[rep, FLIGHT]
    free = settings[KV_BLOCKS] - replicas[rep, USED]
    if free < count:
        needed = 0
        for i in range(count):
            needed += np.int32(flight[i] < 0) & np.int32(room[i] == 0)
        if needed > free:
            return -1, 0
    block = np.int32(settings[BLOCK])
    landing = np.int32(slot + 1)
    sequences = 0
    tokens = 0
    opened = 0
    for i in range(count):
        ready = np.int32(flight[i] < 0)
        new = ready & np.int32(room[i] == 0)
        opened += new
        sequences += ready
        tokens += ready * context[i]
        room[i] += new * block - ready
        context[i] += ready
        flight[i] += ready * landing
    replicas[rep, USED] += opened
    replicas[rep, READY] -= sequences
    return sequences, tokens


@njit(cache=True, nogil=True)
def _decode_in_order(settings, requests, lanes, replicas, rep, slot):  # type: ignore[no-untyped-def]
    """(sequences, KV tokens) of a step's decodes when blocks are short: in order, preempting from the tail."""
    sequences = 0
    tokens = 0
    i = 0
    while i < replicas[rep, RUNNING] - replicas[rep, PARTIAL]:
        if lanes[rep, FLIGHT, i] >= 0:
            i += 1
            continue
        if lanes[rep, ROOM, i] == 0:
            while replicas[rep, USED] == settings[KV_BLOCKS] and replicas[rep, RUNNING] > i:
                _preempt_last(settings, requests, lanes, replicas, rep)
            if replicas[rep, RUNNING] == i:
                break
            replicas[rep, USED] += 1
            lanes[rep, ROOM, i] = settings[BLOCK]
        tokens += lanes[rep, CONTEXT, i]
        sequences += 1
        lanes[rep, ROOM, i] -= 1
        lanes[rep, CONTEXT, i] += 1
        lanes[rep, FLIGHT, i] = slot
        replicas[rep, READY] -= 1
        i += 1
    return sequences, tokens


@njit(cache=True, nogil=True)
def _continue_prompt(settings, prefill_s, requests, lanes, replicas, rep, slot, budget):  # type: ignore[no-untyped-def]
    """(tokens, 1 if they end the prompt, attention seconds) of the next chunk of the last lane; 0 tokens: it was preempted."""
    last = replicas[rep, RUNNING] - 1
    r = lanes[rep, REQUEST, last]
    done = lanes[rep, CONTEXT, last] - 1
    remaining = requests[r, INPUT] + requests[r, OUTPUT] - lanes[rep, LEFT, last] - done
    chunk = min(remaining, budget)
    opened = _blocks(max(chunk - lanes[rep, ROOM, last], 0), settings[BLOCK])
    if opened > settings[KV_BLOCKS] - replicas[rep, USED]:
        _preempt_last(settings, requests, lanes, replicas, rep)
        return 0, 0, 0.0
    replicas[rep, USED] += opened
    lanes[rep, ROOM, last] += opened * settings[BLOCK] - chunk
    lanes[rep, CONTEXT, last] += chunk
    ended = 0
    if chunk == remaining:
        ended = 1
        lanes[rep, FLIGHT, last] = slot
        lanes[rep, FIRST, last] = 1 if lanes[rep, LEFT, last] == requests[r, OUTPUT] else 0
        replicas[rep, PARTIAL] = 0
        replicas[rep, READY] -= 1
    attention = prefill_attention_s(prefill_s, float(done + chunk)) - prefill_attention_s(prefill_s, float(done))
    return chunk, ended, attention


@njit(cache=True, nogil=True)
def _admit(settings, prefill_s, requests, times, lanes, replicas, rep, slot, budget, seen_s):  # type: ignore[no-untyped-def]
    """(tokens, prompts ended, chunks, attention seconds) of the waiting requests visible by `seen_s` that the step takes in."""
    block = settings[BLOCK]
    tokens = 0
    ended = 0
    chunks = 0
    attention = 0.0
    while replicas[rep, HEAD] >= 0 and tokens < budget and replicas[rep, RUNNING] < settings[SEATS]:
        r = replicas[rep, HEAD]
        if times[r, VISIBLE] > seen_s or requests[r, PENDING] >= 0:
            break
        done = requests[r, CACHED]
        total = requests[r, INPUT] + requests[r, GENERATED]
        chunk = min(total - done, budget - tokens)
        opened = _blocks(done + chunk, block)
        if opened > settings[KV_BLOCKS] - replicas[rep, USED]:
            break
        replicas[rep, HEAD] = requests[r, NEXT]
        if replicas[rep, HEAD] < 0:
            replicas[rep, TAIL] = -1
        replicas[rep, QUEUED] -= _blocks(total, block)
        replicas[rep, USED] += opened
        lane = replicas[rep, RUNNING]
        replicas[rep, RUNNING] += 1
        lanes[rep, REQUEST, lane] = r
        lanes[rep, ROOM, lane] = opened * block - done - chunk
        lanes[rep, LEFT, lane] = requests[r, OUTPUT] - requests[r, GENERATED]
        lanes[rep, CONTEXT, lane] = done + chunk + 1
        if done + chunk == total:
            lanes[rep, FLIGHT, lane] = slot
            lanes[rep, FIRST, lane] = 1 if requests[r, GENERATED] == 0 else 0
            ended += 1
        else:
            lanes[rep, FLIGHT, lane] = -1
            lanes[rep, FIRST, lane] = 0
            replicas[rep, PARTIAL] = 1
            replicas[rep, READY] += 1
        tokens += chunk
        chunks += 1
        attention += prefill_attention_s(prefill_s, float(done + chunk)) - prefill_attention_s(prefill_s, float(done))
    return tokens, ended, chunks, attention


@njit(cache=True, nogil=True)
def _start_step(settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, rep, now):  # type: ignore[no-untyped-def]
    """Schedule and launch a step, or note that there is nothing to schedule before a step ends."""
    linear_s, decode_s, prefill_s, sampling_s = tables
    stages = settings[STAGES]
    clocks[rep, CLOCK] = now
    slot = (replicas[rep, OLDEST] + replicas[rep, FLIGHTS]) % stages
    queued = replicas[rep, QUEUED]
    sequences, kv_tokens = _decode_all(settings, lanes, replicas, rep, slot)
    short = sequences < 0
    if short:
        sequences, kv_tokens = _decode_in_order(settings, requests, lanes, replicas, rep, slot)
    tokens = sequences
    samples = sequences
    chunks = 0
    attention = 0.0
    if replicas[rep, PARTIAL] == 1:
        chunk, ended, seconds = _continue_prompt(
            settings, prefill_s, requests, lanes, replicas, rep, slot, settings[BUDGET] - tokens
        )
        short = chunk == 0
        if chunk > 0:
            tokens += chunk
            samples += ended
            chunks = 1
            attention = seconds
    # `short` may be set although nothing was preempted in the end only if it is sequences < 0, which always preempts.
    if not short and replicas[rep, HEAD] >= 0:
        seen_s = now if settings[LAG] == 0 else clocks[rep, LAST_START]
        while True:
            chunk, ended, admitted, seconds = _admit(
                settings, prefill_s, requests, times, lanes, replicas, rep, slot, settings[BUDGET] - tokens, seen_s
            )
            tokens += chunk
            samples += ended
            chunks += admitted
            attention += seconds
            # A step that would be empty takes no time: whoever is visible now enters this one.
            if tokens > 0 or seen_s >= now:
                break
            seen_s = now
    if tokens == 0:
        replicas[rep, STALLED] = 1
        if replicas[rep, FLIGHTS] == 0:
            totals[FAILED] = 1.0
        return
    if settings[EMBED] == 1:
        samples = 0
    factor = scalars[PREFILL_FACTOR] if chunks > 0 else 1.0
    linear = factor * dense_s(linear_s, float(tokens))
    decode = decode_attention_s(decode_s, float(sequences), float(kv_tokens))
    prefill = factor * attention
    sampling = dense_s(sampling_s, float(samples))
    engine = scalars[OVERHEAD_S]
    stage_s = linear + decode + prefill + sampling + engine
    if chunks > 0 and stage_s < scalars[FLOOR_S]:
        engine += scalars[FLOOR_S] - stage_s
        stage_s = scalars[FLOOR_S]
    totals[0] += linear
    totals[1] += decode
    totals[2] += prefill
    totals[3] += sampling
    totals[ENGINE] += engine
    totals[BUSY] += stage_s
    totals[STEPS] += 1.0
    totals[PEAK] = max(totals[PEAK], float(replicas[rep, USED]))
    clocks[rep, LAST_START] = now
    replicas[rep, FLIGHTS] += 1
    # Stages serve the batches in order: a short step behind a long one waits for it.
    at = now
    for stage in range(stages):
        if stage > 0:
            at += scalars[SEND_S] * tokens
        at = max(at, clocks[rep, REPLICA_TIMES + stage]) + stage_s
        clocks[rep, REPLICA_TIMES + stage] = at
    clocks[rep, REPLICA_TIMES + stages + slot] = at


@njit(cache=True, nogil=True)
def _route(settings, replicas, turn):  # type: ignore[no-untyped-def]
    copies = replicas.shape[0]
    if settings[ROUTER] == ROUND_ROBIN:
        return turn % copies
    best = 0
    if settings[ROUTER] == LEAST_LOADED:
        for rep in range(1, copies):
            if replicas[rep, UNFINISHED] < replicas[best, UNFINISHED]:
                best = rep
        return best
    most = -np.inf
    for rep in range(copies):
        room = settings[KV_BLOCKS] - replicas[rep, USED] - replicas[rep, QUEUED]
        freeness = room / max(1, replicas[rep, RUNNING])
        if freeness > most:
            most = freeness
            best = rep
    return best


@njit(cache=True, nogil=True)
def _enter(settings, scalars, requests, times, replicas, clocks, rep, r, now):  # type: ignore[no-untyped-def]
    """The request joins the front end of its replica, and the end of the waiting ones when it leaves it."""
    requests[r, REPLICA] = rep
    if settings[EMBED] == 1:
        cost = scalars[FRONT_S] + scalars[FRONT_IN_S] * requests[r, INPUT]
    else:
        cost = (
            scalars[FRONT_S] + scalars[FRONT_IN_S] * requests[r, INPUT] + scalars[FRONT_OUT_S] * requests[r, OUTPUT]
        )
    clocks[rep, FRONT_FREE] = max(clocks[rep, FRONT_FREE], now) + cost
    times[r, VISIBLE] = clocks[rep, FRONT_FREE]
    tail = replicas[rep, TAIL]
    if tail >= 0:
        requests[tail, NEXT] = r
    else:
        replicas[rep, HEAD] = r
    replicas[rep, TAIL] = r
    replicas[rep, UNFINISHED] += 1
    replicas[rep, QUEUED] += _blocks(requests[r, INPUT], settings[BLOCK])


@njit(cache=True, nogil=True)
def _advance(
    settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, free_s, cursor, rep, until, events
):  # type: ignore[no-untyped-def]
    """Let a replica do what comes before an arrival at `until` (ends up to it, starts before it), at most so many events."""
    stages = settings[STAGES]
    while events > 0:
        at, is_start = _next_event(replicas, clocks, times, rep, stages)
        if at > until or (is_start == 1 and at >= until) or at == np.inf:
            break
        if is_start == 1:
            _start_step(settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, rep, at)
        else:
            _end_step(settings, scalars, requests, times, lanes, replicas, clocks, free_s, cursor, rep)
        events -= 1


@njit(cache=True, nogil=True)
def simulate_llm(
    settings: IntArray,
    scalars: FloatArray,
    tables: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    requests: IntArray,
    times: FloatArray,
    start_s: FloatArray,
    copies: int,
    horizon_s: float,
) -> FloatArray:
    """Fill the columns of `requests` and `times`; the totals come back. `start_s`: clients' starts of a closed loop."""
    stages = settings[STAGES]
    count = requests.shape[0]
    lanes = np.zeros((copies, LANE_ROWS, settings[SEATS]), dtype=np.int32)
    replicas = np.zeros((copies, REPLICA_INTS), dtype=np.int64)
    replicas[:, HEAD] = -1
    replicas[:, TAIL] = -1
    clocks = np.zeros((copies, REPLICA_TIMES + 2 * stages))
    clocks[:, LAST_START] = -1.0
    totals = np.zeros(TOTALS)
    free_s = np.empty(count if settings[CLOSED] == 1 else 1)
    cursor = np.zeros(3, dtype=np.int64)
    closed = settings[CLOSED] == 1
    in_step = closed or settings[ROUTER] != ROUND_ROBIN
    turn = 0
    arrived = 0
    while totals[FAILED] == 0.0:
        # The next arrival, if one is known.
        arrival = np.inf
        if arrived < count:
            if not closed:
                arrival = times[arrived, ARRIVAL]
            else:
                if cursor[NEXT_START] < start_s.shape[0]:
                    arrival = start_s[cursor[NEXT_START]]
                if cursor[FREE_HEAD] < cursor[FREE_TAIL]:
                    arrival = min(arrival, free_s[cursor[FREE_HEAD]])
        if closed:
            # An end may free a client, and so bring a new arrival before the known one: one event at a time.
            soonest = np.inf
            kind = 0
            which = -1
            for rep in range(copies):
                at, is_start = _next_event(replicas, clocks, times, rep, stages)
                if at < soonest or (at == soonest and is_start < kind):
                    soonest = at
                    kind = is_start
                    which = rep
            if soonest < arrival or (soonest == arrival and kind == 0 and soonest < np.inf):
                if soonest > horizon_s:
                    break
                _advance(
                    settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, free_s, cursor,
                    which, np.inf, 1,
                )  # fmt: skip
                continue
        if arrival > horizon_s or arrival == np.inf:
            break
        r = arrived
        arrived += 1
        times[r, ARRIVAL] = arrival
        longest = requests[r, INPUT] + requests[r, OUTPUT]
        if settings[EMBED] == 1:
            longest = requests[r, INPUT] + 1
        # Every token but the last one sampled leaves KV behind.
        blocks = _blocks(longest - 1, settings[BLOCK])
        too_long = longest - settings[EMBED] > settings[MAX_LEN]
        if too_long or blocks > settings[KV_BLOCKS]:
            continue
        if closed:
            if cursor[NEXT_START] < start_s.shape[0] and start_s[cursor[NEXT_START]] == arrival:
                cursor[NEXT_START] += 1
            else:
                cursor[FREE_HEAD] += 1
        if in_step and not closed:
            for rep in range(copies):
                _advance(
                    settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, free_s, cursor,
                    rep, arrival, 1 << 60,
                )  # fmt: skip
        which = _route(settings, replicas, turn)
        turn += 1
        if not in_step:
            _advance(
                settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, free_s, cursor,
                which, arrival, 1 << 60,
            )  # fmt: skip
        _enter(settings, scalars, requests, times, replicas, clocks, which, r, arrival)
    if not closed:
        for rep in range(copies):
            _advance(
                settings, scalars, tables, requests, times, lanes, replicas, clocks, totals, free_s, cursor,
                rep, horizon_s, 1 << 60,
            )  # fmt: skip
    return totals


@njit(cache=True, nogil=True)
def _finish_s(latency_s: FloatArray, stage_free_s: FloatArray, row: int, start: float) -> float:
    """When the last stage would be through with a batch that enters the first one at `start`."""
    at = start
    for stage in range(latency_s.shape[1]):
        at = max(at, stage_free_s[stage]) + latency_s[row, stage]
    return at


@njit(cache=True, nogil=True)
def simulate_table(
    latency_s: FloatArray,
    batches: IntArray,
    max_batch: int,
    overhead_s: float,
    deadline_s: float,
    least_loaded: bool,
    arrival_s: FloatArray,
    e2e_s: FloatArray,
    replica: IntArray,
    copies: int,
    horizon_s: float,
) -> tuple[float, int]:
    """Fill `e2e_s` (NaN: dropped or unfinished) and `replica`; (seconds busy a stage, batches run) come back."""
    count = arrival_s.shape[0]
    stages = latency_s.shape[1]
    stage_free = np.zeros((copies, stages))
    # Queue and requests in service of a replica: one list in arrival order.
    following = np.full(count, -1, dtype=np.int64)
    head = np.full(copies, -1, dtype=np.int64)
    tail = np.full(copies, -1, dtype=np.int64)
    serving = np.full(copies, -1, dtype=np.int64)
    waiting = np.zeros(copies, dtype=np.int64)
    unfinished = np.zeros(copies, dtype=np.int64)
    busy_s = 0.0
    steps = 0
    arrived = 0
    while True:
        arrival = np.inf
        if arrived < count and arrival_s[arrived] <= horizon_s:
            arrival = arrival_s[arrived]
        which = -1
        if arrival < np.inf and not least_loaded:
            which = arrived % copies
        for rep in range(copies):
            if which >= 0 and rep != which:
                continue
            # Batches that start before the arrival.
            while head[rep] >= 0:
                start = max(stage_free[rep, 0], arrival_s[head[rep]])
                if start >= arrival or start > horizon_s:
                    break
                first = head[rep]
                if _finish_s(latency_s, stage_free[rep], 0, start) + overhead_s - arrival_s[first] > deadline_s:
                    head[rep] = following[first]
                    waiting[rep] -= 1
                    unfinished[rep] -= 1
                    continue
                row = 0
                most = min(waiting[rep], max_batch)
                for candidate in range(1, batches.shape[0]):
                    if batches[candidate] > most:
                        break
                    finish = _finish_s(latency_s, stage_free[rep], candidate, start)
                    if finish + overhead_s - arrival_s[first] <= deadline_s:
                        row = candidate
                at = start
                for stage in range(stages):
                    at = max(at, stage_free[rep, stage]) + latency_s[row, stage]
                    stage_free[rep, stage] = at
                    busy_s += latency_s[row, stage] / stages
                steps += 1
                size = min(batches[row], most)
                waiting[rep] -= size
                for _ in range(size):
                    r = head[rep]
                    if at + overhead_s <= horizon_s:
                        e2e_s[r] = at + overhead_s - arrival_s[r]
                    head[rep] = following[r]
        if arrival == np.inf:
            break
        if which < 0:
            which = 0
            for rep in range(copies):
                # Finished ones leave the front of the list, dropped ones left the count when they were dropped.
                r = serving[rep]
                while r >= 0 and r != head[rep]:
                    if math.isnan(e2e_s[r]):
                        r = following[r]
                        continue
                    if arrival_s[r] + e2e_s[r] > arrival:
                        break
                    unfinished[rep] -= 1
                    r = following[r]
                serving[rep] = r
                if unfinished[rep] < unfinished[which]:
                    which = rep
        r = arrived
        arrived += 1
        replica[r] = which
        if head[which] < 0:
            head[which] = r
        if serving[which] < 0:
            serving[which] = r
        if tail[which] >= 0:
            following[tail[which]] = r
        tail[which] = r
        waiting[which] += 1
        unfinished[which] += 1
    return busy_s, steps
