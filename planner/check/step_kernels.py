"""A step of one rank as the kernels that torch can run, with the time that kernel tables give for exactly those."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.check.step_mix import MixStep
from profiles.attention_times import AttentionTimes
from profiles.interference import Demand
from profiles.kernel_kinds import KINDS, Key
from profiles.layer_kernels import Kernel, head_kernels, stage_kernels
from profiles.step_time import Deployment

CACHES = 3.0
"""Layers with data of their own hold at least this many times the last cache together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKernels:
    """A step as it is sent to the process that runs it, and the seconds that the tables give for it.

    `compute_s` and `bandwidth_s`: what its arithmetic and its bytes alone would take at the device's peak.
    """

    request: dict[str, Any]
    predicted_s: float
    compute_s: float
    bandwidth_s: float

    def demand(self, share_fraction: float) -> Demand:
        """What it takes of the device while it runs."""
        return Demand(
            share_fraction=share_fraction,
            compute_fraction=min(self.compute_s / self.predicted_s, 1.0),
            bandwidth_fraction=min(self.bandwidth_s / self.predicted_s, 1.0),
        )


@dataclass(frozen=True, kw_only=True)
class StepBuilder:
    """Turns steps of a deployment into kernels. Its GPU has tables that were measured on the device at hand."""

    deployment: Deployment
    cache_bytes: int
    budget_s: float

    def build(self, step: MixStep) -> StepKernels:
        """One step on the largest pipeline stage."""
        layers = self.deployment.stage_layers
        stage = [k for k in self._stage if k.measured is not None]
        layer = [_sent(k, step.tokens, max(round(k.repeats / layers), 1)) for k in stage]
        predicted_s = sum(k.repeats * _seconds(k, step.tokens) for k in stage)
        for part, seconds in self._attention(step):
            layer.append(part)
            predicted_s += seconds
        heads = [k for k in self._head if k.measured is not None] if step.samples else []
        predicted_s += sum(k.repeats * _seconds(k, step.samples) for k in heads)
        head = [_sent(k, step.samples, 1) for k in heads]
        layer_work, head_work = self._work(layer), self._work(head)
        request = {
            "do": "step",
            "layers": layers,
            # Enough layers with data of their own that none finds it in the cache from the layer before.
            "copies": 1 + int(CACHES * self.cache_bytes / max(layer_work.bytes_moved, 1.0)),
            "layer": layer,
            "head": head,
            "budget_s": self.budget_s,
        }
        return StepKernels(
            request=request,
            predicted_s=predicted_s,
            compute_s=layers * layer_work.compute_s + head_work.compute_s,
            bandwidth_s=layers * layer_work.bandwidth_s + head_work.bandwidth_s,
        )

    def left_out(self) -> list[str]:
        """The kernels of a step that are not run, and so not predicted either."""
        names = [k.name for k in (*self._stage, *self._head) if k.measured is None]
        if self.deployment.model.mla is not None:
            names.append("latent attention")
        if self.attention.windowed:
            names.append("the window of sliding-window layers")
        return names

    @property
    def has_products(self) -> bool:
        """Whether the tables hold the products of the model's layers: without, there is next to nothing to compare."""
        return any(k.measured is not None and k.measured[0] == "gemm" for k in self._stage)

    @property
    def attention(self) -> AttentionTimes:
        """Attention of the stage's layers."""
        return self.deployment.attention

    @property
    def _stage(self) -> Sequence[Kernel]:
        """Kernels of a layer. Layers without experts, where a model has both, are run as those with experts are."""
        return stage_kernels(self.deployment.rank, self.deployment.stage_layers)

    @property
    def _head(self) -> Sequence[Kernel]:
        return head_kernels(self.deployment.rank)

    def _attention(self, step: MixStep) -> list[tuple[dict[str, Any], float]]:
        """(kernel, seconds of it in all layers) of the step's attention."""
        rank = self.deployment.rank
        if rank.model.mla is not None:
            return []
        shape = {
            "operand": "fp32" if self.deployment.kv_dtype.value == "fp32" else "bf16",
            "head_dim": rank.model.head_dim,
            "heads": round(rank.heads),
            "kv_heads": round(rank.kv_heads),
            "window": 0,
        }
        found: list[tuple[dict[str, Any], float]] = []
        if step.decodes:
            context = max(round(step.kv_tokens / step.decodes), 1)
            columns = {**shape, "batch": step.decodes, "context": context}
            seconds = float(self.attention.decode_s(step.decodes, step.decodes * context))
            found.append((_part("decode_attention", columns), seconds))
        for done, tokens in step.chunks:
            columns = {**shape, "tokens": done + tokens, "done": done}
            seconds = float(self.attention.prefill_s(done + tokens)) - float(self.attention.prefill_s(done))
            found.append((_part("prefill_attention", columns), seconds))
        return found

    def _work(self, parts: Sequence[dict[str, Any]]) -> "_Total":
        """What kernels move and compute together."""
        moved = compute_s = bandwidth_s = 0.0
        for part in parts:
            kind, repeats = KINDS[part["kernel"]], part["repeats"]
            columns = {name: np.array([part["columns"][name]]) for name in kind.columns}
            work = kind.work(columns, self.deployment.gpu)
            moved += repeats * float(work.bytes_moved[0])
            compute_s += repeats * float(work.flops[0] / work.flops_per_s[0])
            bandwidth_s += repeats * float(work.bytes_moved[0]) / work.bytes_per_s
        return _Total(bytes_moved=moved, compute_s=compute_s, bandwidth_s=bandwidth_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Total:
    """Bytes, and seconds at the device's peaks."""

    bytes_moved: float
    compute_s: float
    bandwidth_s: float


def _sent(kernel: Kernel, tokens: int, repeats: int) -> dict[str, Any]:
    assert kernel.measured is not None
    name, key = kernel.measured
    return _part(name, _columns(name, key, tokens * kernel.token_factor), repeats)


def _part(kernel: str, columns: dict[str, Any], repeats: int = 1) -> dict[str, Any]:
    return {"kernel": kernel, "columns": columns, "repeats": repeats}


def _columns(name: str, key: Key, size: int) -> dict[str, Any]:
    return {**dict(zip(KINDS[name].keys, key, strict=True)), KINDS[name].size: size}


def _seconds(kernel: Kernel, tokens: int) -> float:
    return float(kernel.seconds(np.array([float(tokens)]))[0])
