"""The step time of one replica as arrays that a compiled simulator reads in a few tens of nanoseconds.

A step of vLLM's V1 engine holds decode tokens and chunks of prefill. Its time on one pipeline stage is

    stage_s(T, b, K, chunks, s) = f · linear(T) + decode_attention(b, K)
                                  + f · Σ_chunks [prefill_attention(p + q) − prefill_attention(p)]
                                  + sampling(s) + overhead_s
    f = prefill_factor when the step holds a chunk of prefill, else 1;
    a step with a chunk of prefill lasts at least prefill_floor_s

with T tokens in the step, b decode sequences holding K tokens of KV together, chunks of q tokens after p, and s
sequences that sample a token. A step takes `stages · stage_s + (stages − 1) · send_s_per_token · T` from start to end,
and a new step may start every stage_s; stages serve steps in order. (The additive form explains measured engine runs
to a few per cent.)
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from profiles.evidence import EvidenceShares

FloatArray = NDArray[np.float64]


class Component(IntEnum):
    """The parts of a step whose time the simulator adds up, so that evidence follows the figure."""

    LINEAR = 0
    DECODE_ATTENTION = 1
    PREFILL_ATTENTION = 2
    SAMPLING = 3
    ENGINE = 4


PREFILL_GRID_TOKENS = 64
"""`prefill_attention_s[i]` belongs to a prompt of 64 · i tokens; linear between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """Seconds of one pipeline stage (the slowest one), tabulated for one (model, GPU, dtype, tp, pp, ep).

    `linear_s[T]`, T = 0..len−1 dense: GEMMs, norms, MoE, collectives; beyond the end the last slope goes on.
    `decode_attention_s[i, j]`: at batch 2^i and total KV of 2^j tokens; linear in b and in K inside each octave; 0 at
    b = 0; K below 1 or above the last power reads the edge octave extended linearly.
    `prefill_attention_s[i]`: one prompt of 64 · i tokens from the start; linear between, the last slope beyond.
    `sampling_s[s]`, dense: output projection and sampling of s sequences; the last slope beyond.
    Front end (one serial first-come-first-served server a replica, before the scheduler sees a request):
    `front_end_request_s + front_end_input_token_s · input + front_end_output_token_s · output`.
    `client_s` is added to every TTFT. `schedule_lag_steps` is 1 with asynchronous scheduling: a request that is ready
    after step k was scheduled, but before it ended, enters step k + 2 (the step after next); 0: it enters step k + 1.
    `component_evidence[c]` has the shares of component c (seconds of a representative step).
    """

    linear_s: FloatArray
    decode_attention_s: FloatArray
    prefill_attention_s: FloatArray
    sampling_s: FloatArray
    overhead_s: float
    prefill_factor: float
    prefill_floor_s: float
    stages: int
    send_s_per_token: float
    front_end_request_s: float
    front_end_input_token_s: float
    front_end_output_token_s: float
    client_s: float
    schedule_lag_steps: int
    component_evidence: tuple[EvidenceShares, ...]
