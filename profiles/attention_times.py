"""Attention of a stage's layers on one rank: from measured kernels where tables cover it, else by the fitted laws."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from profiles.evidence import Evidence
from profiles.kernel_curves import Curve, Surface
from profiles.layer_kernels import Rank
from profiles.precision import KvDtype
from profiles.roofline import FloatArray, Number, decode_attention_s, prefill_attention_s

MOST_SEQUENCES = 2048


@dataclass(frozen=True, kw_only=True)
class AttentionTimes:
    """Attention of so many layers, those with a sliding window spread evenly over the model."""

    rank: Rank
    kv_dtype: KvDtype
    layers: int

    def decode_s(self, batch: Number, kv_tokens: Number) -> FloatArray:
        """Seconds for batches that hold so many KV tokens together (at least one each)."""
        sequences = np.asarray(batch, dtype=np.float64)
        held = np.maximum(np.asarray(kv_tokens, dtype=np.float64), sequences)
        time_s = (self.layers - self.windowed) * self._decode_layer_s(self._decode_surface, sequences, held)
        if self.windowed:
            seen = held if self._windowed_surface_is_own else np.minimum(held, sequences * self.window)
            time_s = time_s + self.windowed * self._decode_layer_s(self._windowed_surface, sequences, seen)
        return np.asarray(time_s)

    def prefill_s(self, tokens: Number) -> FloatArray:
        """Seconds for one prompt of so many tokens from its start."""
        time_s = (self.layers - self.windowed) * self._prefill_layer_s(self._prefill_curve, tokens, None)
        if self.windowed:
            time_s = time_s + self.windowed * self._prefill_layer_s(self._windowed_curve, tokens, self.window)
        return np.asarray(time_s)

    def decode_evidence(self, batch: float, context: float) -> Evidence:
        """How the time of a decode step is known: that of the weaker kind of layers."""
        known = []
        if self.layers > self.windowed:
            known.append(self._decode_surface)
        if self.windowed:
            known.append(self._windowed_surface)
        return _weakest([s.evidence(batch, context) if s else self.rank.curves.evidence for s in known])

    def prefill_evidence(self, tokens: float) -> Evidence:
        """How the time of a prompt is known: that of the weaker kind of layers."""
        known = []
        if self.layers > self.windowed:
            known.append(self._prefill_curve)
        if self.windowed:
            known.append(self._windowed_curve)
        return _weakest([c.evidence(tokens) if c else self.rank.curves.evidence for c in known])

    @property
    def windowed(self) -> int:
        """Layers of the stage that attend within a window only."""
        window = self.rank.model.sliding_window
        return window.layers * self.layers // self.rank.model.layers if window else 0

    @property
    def window(self) -> int:
        """Tokens of the sliding window, 0 when there is none."""
        window = self.rank.model.sliding_window
        return window.window_tokens if window else 0

    @property
    def _operand(self) -> str:
        return {KvDtype.FP8: "fp8", KvDtype.FP32: "fp32"}.get(self.kv_dtype, "bf16")

    @cached_property
    def _decode_surface(self) -> Surface | None:
        rank = self.rank
        if rank.tables is None:
            return None
        if rank.model.mla is not None:
            return rank.tables.latent_decode(self._operand, rank.model.mla, round(rank.heads))
        return self._decode_table(0)

    @cached_property
    def _windowed_surface(self) -> Surface | None:
        """The surface of that window, else the one without a window, read at the window's length at most."""
        own = self._decode_table(self.window)
        whole = self._decode_surface
        return own or (replace(whole, shape=Evidence.SCALED) if whole else None)

    @property
    def _windowed_surface_is_own(self) -> bool:
        return self._decode_table(self.window) is not None

    def _decode_table(self, window: int) -> Surface | None:
        rank = self.rank
        if rank.tables is None or rank.kv_heads != round(rank.kv_heads):
            return None
        return rank.tables.decode(self._operand, rank.model.head_dim, round(rank.heads), round(rank.kv_heads), window)

    @cached_property
    def _prefill_curve(self) -> Curve | None:
        rank = self.rank
        if rank.tables is None:
            return None
        if rank.model.mla is not None:
            return rank.tables.latent_prefill(self._operand, rank.model.mla, round(rank.heads))
        return self._prefill_table(0)

    @cached_property
    def _windowed_curve(self) -> Curve | None:
        return self._prefill_table(self.window)

    def _prefill_table(self, window: int) -> Curve | None:
        rank = self.rank
        if rank.tables is None:
            return None
        kv_heads = max(round(rank.kv_heads), 1)
        return rank.tables.prefill(self._operand, rank.model.head_dim, round(rank.heads), kv_heads, window)

    def _decode_layer_s(self, surface: Surface | None, sequences: FloatArray, held: FloatArray) -> FloatArray:
        """One layer over caches of so many tokens together."""
        if surface is not None:
            return _least_over_splits_s(surface, sequences, held)
        model, rank = self.rank.model, self.rank
        law = rank.curves.decode(self.kv_dtype.value)
        if model.mla is not None:
            token_bytes = 1.0 * (model.mla.kv_lora_rank + model.mla.qk_rope_head_dim) * self.kv_dtype.bytes
            token_flops = 2.0 * rank.heads * (2 * model.mla.kv_lora_rank + model.mla.qk_rope_head_dim)
        else:
            token_bytes = 2 * rank.kv_heads * model.head_dim * self.kv_dtype.bytes
            token_flops = 4.0 * rank.heads * model.head_dim
        return decode_attention_s(law, sequences * rank.kv_heads, held * token_bytes, held * token_flops)

    def _prefill_layer_s(self, curve: Curve | None, tokens: Number, window: int | None) -> FloatArray:
        """One layer over one prompt (0 tokens: none)."""
        if curve is not None:
            return np.where(np.asarray(tokens) > 0, curve.read(tokens), 0.0)
        mla, per_pair = self.rank.model.mla, 4.0 * self.rank.model.head_dim
        if mla is not None:
            per_pair = 2.0 * (mla.qk_nope_head_dim + mla.qk_rope_head_dim + mla.v_head_dim)
        return prefill_attention_s(self.rank.curves.prefill(), self.rank.heads, per_pair, tokens, window)


def _least_over_splits_s(surface: Surface, sequences: FloatArray, held: FloatArray) -> FloatArray:
    """Seconds, no longer than for the same cache split over 2, 4, … times as many sequences.

    One long sequence fills a GPU less well than several shorter ones; the step table's times must not fall as sequences
    are added to a cache of the same size, and batches are what is planned with.
    """
    time_s = surface.read(sequences, held / sequences)
    for doubling in range(1, int(np.log2(MOST_SEQUENCES)) + 1):
        split = sequences * 2.0**doubling
        time_s = np.where(
            split <= np.minimum(held, MOST_SEQUENCES), np.minimum(time_s, surface.read(split, held / split)), time_s
        )
    return time_s


def _weakest(evidence: list[Evidence]) -> Evidence:
    return max(evidence, key=list(Evidence).index)
