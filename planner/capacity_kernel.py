"""Expected attainment of a replica pool in closed form, compiled: the inner loop of the capacity search.

A fixed point, not a simulation. With rate λ a copy, n copies behind one router, and a step of mean length τ:

    b = λ · E[output] · τ                      sequences decoding (Little's law)
    a = λ · E[chunks] · τ,  p = 1 − exp(−a)    chunks of prefill a step; share of steps that hold one
    τ = p · τ_mixed(b, tokens of a/p chunks) + (1 − p) · τ_decode(b)

A request's TPOT counts the runs of prefill steps that fall into it (binomial), at a level that fluctuates. Its TTFT is
front end, residual step, scheduling lag, own chunks, and a wait with P(W > t) = w · exp(−t · w / E[W]), where
w = ρ^(√(2(n+1))−1) and E[W] = s · (ca² + cs²)/2 · w / (n (1 − ρ)) (Sakasegawa's approximation of GI/G/n). The result
only ranks and seeds: plans are verified by simulation, which tightens it.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from planner.step_lookup_kernel import decode_attention_s, dense_s, prefill_attention_s

FloatArray = NDArray[np.float64]
Arrays = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""linear_s, decode_attention_s, prefill_attention_s, sampling_s of a step table."""

# Positions in the vector of scalars.
OVERHEAD_S, PREFILL_FACTOR, PREFILL_FLOOR_S, STAGES, SEND_S, FRONT_S, FRONT_IN_S, FRONT_OUT_S, CLIENT_S, LAG = range(10)
# Positions in the vector of settings.
MAX_SEQS, MAX_TOKENS, KV_TOKENS, MAX_LEN, COPIES, ARRIVAL_CV, BALANCED, IS_EMBED = range(8)
# Columns of the sample matrix.
IN_TOKENS, COMPUTED_TOKENS, OUT_TOKENS, TTFT_SLO_S, TPOT_SLO_S, E2E_SLO_S, GROUP = range(7)

FIXED_POINT_ROUNDS = 60
BISECTION_ROUNDS = 17


@njit(cache=True, nogil=True)
def _normal_cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / 1.4142135623730951)


@njit(cache=True, nogil=True)
def _decode_step_s(arrays: Arrays, scalars: FloatArray, batch: float, kv_tokens: float) -> float:
    linear, decode, _prefill, sampling = arrays
    if batch <= 0.0:
        return 0.0
    return dense_s(linear, batch) + decode_attention_s(decode, batch, kv_tokens) + dense_s(sampling, batch) + scalars[0]


@njit(cache=True, nogil=True)
def _mixed_step_s(
    arrays: Arrays,
    scalars: FloatArray,
    batch: float,
    kv_tokens: float,
    prefill_tokens: float,
    attention_s: float,
    samplers: float,
) -> float:
    linear, decode, _prefill, sampling = arrays
    step = scalars[OVERHEAD_S] + dense_s(sampling, samplers)
    step += scalars[PREFILL_FACTOR] * (dense_s(linear, batch + prefill_tokens) + attention_s)
    if batch > 0.0:
        step += decode_attention_s(decode, batch, kv_tokens)
    return max(step, scalars[PREFILL_FLOOR_S])


@njit(cache=True, nogil=True)
def _steady_state(
    arrays: Arrays, scalars: FloatArray, settings: FloatArray, samples: FloatArray, rate: float
) -> tuple[float, float, float, float, float, float, float, float]:
    """(τ, batch, share of mixed steps, τ_decode, τ_mixed, tokens a mixed step, KV tokens a sequence, chunks a request).

    τ is infinite where no state is stable.
    """
    count = samples.shape[0]
    mean_computed = 0.0
    mean_output = 0.0
    mean_chunks = 0.0
    mean_attention = 0.0
    decode_context = 0.0
    budget = settings[MAX_TOKENS]
    for i in range(count):
        computed = samples[i, COMPUTED_TOKENS]
        output = samples[i, OUT_TOKENS]
        decodes = output - 1.0 if settings[IS_EMBED] == 0.0 else 0.0
        mean_computed += computed
        mean_output += decodes
        mean_chunks += math.ceil(computed / budget)
        cached = samples[i, IN_TOKENS] - computed
        mean_attention += prefill_attention_s(arrays[2], samples[i, IN_TOKENS]) - prefill_attention_s(arrays[2], cached)
        decode_context += decodes * (samples[i, IN_TOKENS] + 0.5 * output)
    mean_computed /= count
    mean_output /= count
    mean_chunks /= count
    mean_attention /= count
    context = decode_context / (count * mean_output) if mean_output > 0.0 else 0.0
    chunk_tokens = mean_computed / mean_chunks
    chunk_attention = mean_attention / mean_chunks
    stages = scalars[STAGES]
    answers = 1.0 - settings[IS_EMBED]
    step = _decode_step_s(arrays, scalars, 1.0, context)
    batch = 0.0
    mixed_share = 0.0
    decode_step = step
    mixed_step = step
    tokens = chunk_tokens
    for _ in range(FIXED_POINT_ROUNDS):
        # With a pipeline, `stages` micro-batches are in flight, each with its share of the sequences.
        cycle = step * stages
        batch = rate * mean_output * cycle / stages
        chunks = rate * mean_chunks * step
        if batch > 4.0 * settings[MAX_SEQS] or chunks * chunk_tokens > 4.0 * budget:
            return np.inf, batch, mixed_share, decode_step, mixed_step, tokens, context, mean_chunks
        mixed_share = 1.0 - math.exp(-chunks)
        merged = chunks / mixed_share if mixed_share > 1e-12 else 1.0
        tokens = merged * chunk_tokens
        kv = batch * context
        decode_step = _decode_step_s(arrays, scalars, max(batch, 1.0), max(kv, context))
        mixed_step = _mixed_step_s(arrays, scalars, batch, kv, tokens, merged * chunk_attention, batch + answers)
        busy = mixed_share * mixed_step + (1.0 - mixed_share) * decode_step
        if abs(busy - step) < 1e-7 * step:
            step = busy
            break
        step = 0.5 * step + 0.5 * busy
    return step, batch, mixed_share, decode_step, mixed_step, tokens, context, mean_chunks


@njit(cache=True, nogil=True)
def _tpot_chance(
    limit_s: float, decode_step: float, mixed_step: float, mixed_share: float, runs: float, fluctuation: float
) -> float:
    """P(mean step of a request <= limit): each of `runs` runs is mixed with probability p; their level fluctuates."""
    chance = 0.0
    for node in range(3):
        # Three-point Gauss-Hermite over the level of the batch while the request runs.
        level = 1.7320508075688772 * (node - 1.0) * fluctuation
        weight = 0.6666666666666666 if node == 1 else 0.16666666666666666
        room = limit_s - decode_step - level
        extra = mixed_step - decode_step
        if room < 0.0:
            continue
        if room >= extra:
            chance += weight
        elif runs <= 1.0:
            chance += weight * (1.0 - mixed_share)
        elif runs >= 40.0:
            deviation = math.sqrt(mixed_share * (1.0 - mixed_share) / runs) * extra + 1e-12
            chance += weight * _normal_cdf((room - mixed_share * extra) / deviation)
        else:
            chance += weight * _binomial_cdf(int(runs * room / extra), runs, mixed_share)
    return chance


@njit(cache=True, nogil=True)
def _binomial_cdf(most: int, trials: float, share: float) -> float:
    """P(at most `most` of `trials`), trials at least 1 and possibly fractional."""
    term = (1.0 - share) ** trials
    total = term
    for k in range(most):
        term *= (trials - k) / (k + 1.0) * share / max(1.0 - share, 1e-12)
        if term <= 0.0:
            break
        total += term
    return min(total, 1.0)


@njit(cache=True, nogil=True)
def attainment_by_group(
    arrays: Arrays, scalars: FloatArray, settings: FloatArray, samples: FloatArray, groups: int, rate: float
) -> FloatArray:
    """Expected share of each group's requests that attain, shape (groups,); zeros when the state has no limit."""
    result = np.zeros(groups)
    step, batch, mixed_share, decode_step, mixed_step, tokens, context, mean_chunks = _steady_state(
        arrays, scalars, settings, samples, rate
    )
    copies = settings[COPIES]
    stages = scalars[STAGES]
    in_flight = batch * stages
    spread = math.sqrt(in_flight / copies) if settings[BALANCED] == 1.0 else math.sqrt(in_flight)
    if not math.isfinite(step) or mixed_share * tokens + batch > settings[MAX_TOKENS]:
        return result
    if in_flight + 0.5 * spread > settings[MAX_SEQS]:
        return result
    if (in_flight + 0.5 * spread) * context > settings[KV_TOKENS]:
        return result
    count = samples.shape[0]
    burst = max(settings[ARRIVAL_CV], 0.0) ** 2
    # Prefill work of one request beyond the decode step that it joins, and its variation.
    work = 0.0
    work_squared = 0.0
    chunks_squared = 0.0
    front = 0.0
    own = np.empty(count)
    # A model that only reads sends no tokens back.
    answers = 1.0 - settings[IS_EMBED]
    for i in range(count):
        computed = samples[i, COMPUTED_TOKENS]
        chunks = math.ceil(computed / settings[MAX_TOKENS])
        cached = samples[i, IN_TOKENS] - computed
        attention = prefill_attention_s(arrays[2], samples[i, IN_TOKENS]) - prefill_attention_s(arrays[2], cached)
        one = _mixed_step_s(
            arrays, scalars, batch, batch * context, computed / chunks, attention / chunks, batch + answers
        )
        base = decode_step if batch > 0.5 else 0.0
        extra = chunks * max(one - base, 0.0)
        work += extra
        work_squared += extra * extra
        chunks_squared += chunks * chunks
        own[i] = (chunks + stages - 1.0) * one + stages * scalars[SEND_S] * computed
        front += (
            scalars[FRONT_S]
            + scalars[FRONT_IN_S] * samples[i, IN_TOKENS]
            + scalars[FRONT_OUT_S] * answers * samples[i, OUT_TOKENS]
        )
    work /= count
    front /= count
    variation = work_squared / count / (work * work) - 1.0 if work > 0.0 else 0.0
    load = rate * work
    front_load = rate * front
    if load >= 0.98 or front_load >= 0.98:
        return result
    pooled = copies if settings[BALANCED] == 1.0 else 1.0
    waits = load ** (math.sqrt(2.0 * (pooled + 1.0)) - 1.0)
    mean_wait = work * 0.5 * (burst + variation) * waits / (pooled * (1.0 - load))
    front_wait = front * 0.5 * burst * front_load / (1.0 - front_load)
    busy = 1.0 - math.exp(-max(in_flight, load))
    slope = 0.0
    if batch > 0.5:
        more = _decode_step_s(arrays, scalars, batch * 1.2, batch * 1.2 * context)
        slope = (more - decode_step) / (0.2 * batch)
    fluctuation = slope * spread / stages
    # Chunks of one prompt come one after the other, and prompts queue behind each other: mixed steps come in runs.
    run = max(1.0, chunks_squared / count / mean_chunks * max(1.0, burst) / (1.0 - load))
    totals = np.zeros(groups)
    for i in range(count):
        group = int(samples[i, GROUP])
        totals[group] += 1.0
        output = samples[i, OUT_TOKENS]
        if samples[i, IN_TOKENS] + answers * output > settings[MAX_LEN]:
            continue
        gaps = output - 1.0
        fixed = (
            scalars[FRONT_S]
            + scalars[FRONT_IN_S] * samples[i, IN_TOKENS]
            + scalars[FRONT_OUT_S] * answers * output
            + scalars[CLIENT_S]
            + front_wait
            + own[i]
            + busy * scalars[LAG] * step
        )
        chance = 0.0
        for third in range(3):
            room = samples[i, TTFT_SLO_S] - fixed - busy * step * (third + 0.5) / 3.0
            if room >= 0.0:
                tail = waits * math.exp(-room * waits / mean_wait) if mean_wait > 0.0 and waits > 0.0 else 0.0
                chance += (1.0 - tail) / 3.0
        gap = step * stages
        if gaps >= 1.0 and settings[IS_EMBED] == 0.0:
            if math.isfinite(samples[i, TPOT_SLO_S]):
                chance *= _tpot_chance(
                    samples[i, TPOT_SLO_S] / stages, decode_step, mixed_step, mixed_share, gaps / run, fluctuation
                )
            total = fixed + busy * step * 0.5 + mean_wait + gaps * gap
            spread_s = math.sqrt((gaps * stages * fluctuation) ** 2 + (0.3 * step) ** 2)
            chance *= _normal_cdf((samples[i, E2E_SLO_S] - total) / spread_s)
        elif fixed + busy * step * 0.5 + mean_wait > samples[i, E2E_SLO_S]:
            chance = 0.0
        result[group] += chance
    return result / np.maximum(totals, 1.0)


@njit(cache=True, nogil=True)
def largest_rate(
    arrays: Arrays,
    scalars: FloatArray,
    settings: FloatArray,
    samples: FloatArray,
    targets: FloatArray,
    ceiling_rps: float,
) -> float:
    """Largest rate a copy at which every group's attainment is at least its target; 0 when no rate is.

    Where the attainment can only be bought below one request in flight the answer is still positive.
    """
    groups = targets.shape[0]
    low = ceiling_rps * 1e-4
    met = attainment_by_group(arrays, scalars, settings, samples, groups, low)
    for g in range(groups):
        if met[g] < targets[g]:
            return 0.0
    high = ceiling_rps
    for _ in range(BISECTION_ROUNDS):
        middle = 0.5 * (low + high)
        met = attainment_by_group(arrays, scalars, settings, samples, groups, middle)
        held = True
        for g in range(groups):
            if met[g] < targets[g]:
                held = False
        if held:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def alone_s(
    arrays: Arrays, scalars: FloatArray, settings: FloatArray, samples: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(TTFT, TPOT) in seconds of each sample served alone, both shape (samples,); TPOT NaN for one token."""
    count = samples.shape[0]
    ttft = np.empty(count)
    tpot = np.empty(count)
    stages = scalars[STAGES]
    for i in range(count):
        tokens = samples[i, IN_TOKENS]
        computed = samples[i, COMPUTED_TOKENS]
        output = samples[i, OUT_TOKENS]
        done = tokens - computed
        answers = output if settings[IS_EMBED] == 0.0 else 0.0
        total = scalars[FRONT_S] + scalars[FRONT_IN_S] * tokens + scalars[FRONT_OUT_S] * answers + scalars[CLIENT_S]
        step = 0.0
        while done < tokens:
            chunk = min(settings[MAX_TOKENS], tokens - done)
            attention = prefill_attention_s(arrays[2], done + chunk) - prefill_attention_s(arrays[2], done)
            done += chunk
            samplers = 1.0 if done >= tokens and settings[IS_EMBED] == 0.0 else 0.0
            step = _mixed_step_s(arrays, scalars, 0.0, 0.0, chunk, attention, samplers)
            total += step
        # The chunks of one prompt follow each other through the pipeline; the last one leaves it a pass later.
        total += (stages - 1.0) * step
        ttft[i] = total
        tpot[i] = np.nan
        if output > 1.0 and settings[IS_EMBED] == 0.0:
            # Between the first decode step and the last; attention bends a little one way or the other.
            middle = _decode_step_s(arrays, scalars, 1.0, tokens + 0.5 * output)
            first = _decode_step_s(arrays, scalars, 1.0, tokens + 1.0)
            last = _decode_step_s(arrays, scalars, 1.0, tokens + output - 1.0)
            tpot[i] = stages * min(middle, 0.5 * (first + last))
    return ttft, tpot
