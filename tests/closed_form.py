"""A public tool's closed form of TTFT and TPOT, on the kernel times of this project: what a benchmark must beat.

Aggregated mode of aiconfigurator 0.12.0 (NVIDIA, Apache-2.0), `run_agg` of its vLLM backend: a mixed step holds one
whole prompt beside the other clients' decodes; of a request's steps as many are mixed as there are clients. Its two
constants for the TTFT were fitted by its makers on the same published runs.
"""

import math

from planner.estimate import Prepared
from profiles.step_time import Deployment, estimate_breakdown

LAUNCH_MS_PER_LAYER = 0.8


def closed_form_ms(prepared: Prepared) -> tuple[float, float]:
    """(TTFT, TPOT) in milliseconds of a closed loop of `concurrency` clients with the label's lengths."""
    question, clients = prepared.question, prepared.question.concurrency
    assert clients is not None
    context = question.input_tokens + question.output_tokens // 2
    mixed = _step_ms(prepared.deployment, question.input_tokens, clients - 1, context)
    decode = _step_ms(prepared.deployment, 0, clients, context)
    decodes = max(question.output_tokens - clients, 0)
    tpot = (mixed * clients + decode * decodes) / (clients + decodes)
    ttft = (mixed + LAUNCH_MS_PER_LAYER * prepared.deployment.model.layers) * min(1 + math.log2(clients) / 8, 2)
    return ttft, tpot


def _step_ms(deployment: Deployment, prefill_tokens: int, batch: int, context: int) -> float:
    """One step's kernels, without any engine term."""
    parts = estimate_breakdown(deployment, prefill_tokens=prefill_tokens, decode_batch=batch, context=context)
    factor = deployment.overheads.prefill_factor if prefill_tokens else 1.0
    head = {"output head", "sampling", "gather logits", "decode attention"}
    engine = {"engine per sequence", "engine per step", "launch bound"}
    kernels = [
        (name, seconds if name in head else seconds / factor) for name, seconds, _ in parts if name not in engine
    ]
    return 1e3 * sum(seconds for _, seconds in kernels)
