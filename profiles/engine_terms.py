"""What an engine adds to the kernels of a step, read from its file for one model on one GPU."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from profiles.engines import Engine, GraphSizes, TermValues
from profiles.models import ModelArchitecture
from profiles.step_table import StepTable

LATENT_LAUNCHES = 3.0
"""Launch time of a prompt's layer with latent attention over that of a plain one: its projections come in pairs, with
norms and copies between. It is 2.7 between Kimi-K2.5 and the other models on vLLM, and 3.9 between DeepSeek-V3 and
Llama-3.1-70B on TensorRT-LLM (medians of fitted terms, runs of docs/accuracy.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOverheads:
    """Fixed times of a step on one pipeline stage, in seconds."""

    overhead_s: float
    prefill_factor: float
    prefill_floor_s: float
    sequence_s: float


def launch_layers(model: ModelArchitecture, stage_layers: int) -> float:
    """How many layers with plain attention launch as many kernels as so many layers of that model."""
    return stage_layers * (LATENT_LAUNCHES if model.mla is not None else 1.0)


def step_overheads(engine: Engine, terms: TermValues, layers: float) -> StepOverheads:
    """The fixed times of a stage that launches as much as so many plain layers (`launch_layers`) under these terms."""
    return StepOverheads(
        overhead_s=terms.overhead_s,
        prefill_factor=terms.prefill_factor,
        prefill_floor_s=terms.prefill_floor_s_per_layer * layers,
        sequence_s=engine.sequence_s,
    )


def with_terms(table: StepTable, terms: TermValues, layers: float) -> StepTable:
    """The table of a stage that launches as much as so many plain layers with other fixed times; its kernels stay."""
    return replace(
        table,
        overhead_s=terms.overhead_s,
        prefill_factor=terms.prefill_factor,
        prefill_floor_s=terms.prefill_floor_s_per_layer * layers,
    )


def captured_sizes(sizes: GraphSizes) -> NDArray[np.int64]:
    """The token counts with a CUDA graph, increasing; empty when the engine holds none."""
    small = range(sizes.small_step, min(sizes.small_until, sizes.largest + 1), sizes.small_step)
    large = range(sizes.small_until, sizes.largest + 1, sizes.large_step)
    every = {s for s in (*sizes.first, *small, *large) if s <= sizes.largest}
    return np.array(sorted(every), dtype=np.int64)


def padded_tokens(sizes: GraphSizes, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tokens a step really computes: the next captured size, or the same number beyond the largest."""
    captured = captured_sizes(sizes)
    if captured.size == 0:
        return tokens
    index = np.searchsorted(captured, tokens)
    within = captured[np.minimum(index, captured.size - 1)]
    return np.where(tokens <= captured[-1], np.where(tokens > 0, within, 0), tokens)
