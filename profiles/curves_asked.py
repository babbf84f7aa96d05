"""Which curves of kernel tables the steps of a deployment read: what is worth measuring for it."""

from dataclasses import dataclass, field, replace

import numpy as np

from profiles.attention_times import AttentionTimes
from profiles.kernel_curves import Curve, Surface
from profiles.kernel_kinds import Key
from profiles.kernel_table import KernelTables
from profiles.layer_kernels import head_kernels, stage_kernels
from profiles.models import LatentAttention
from profiles.step_time import Deployment

Asked = tuple[str, Key]
"""A kind of kernel and the key of one of its curves."""


def curves_asked(deployment: Deployment) -> list[Asked]:
    """The curves that the step times of a deployment are read from, each once, in the order of the step.

    Raises ProfileError when the GPU cannot run the formats or the model cannot be split that way.
    """
    recorder = _Recorder(gpu=deployment.gpu, kinds={})
    links = replace(deployment.links, tables=recorder)
    rank = replace(deployment.rank, tables=recorder, links=links)
    one = np.array([1.0])
    for kernel in (*stage_kernels(rank, deployment.stage_layers), *head_kernels(rank)):
        kernel.seconds(one)
    attention = AttentionTimes(rank=rank, kv_dtype=deployment.kv_dtype, layers=deployment.stage_layers)
    attention.prefill_s(1.0)
    attention.decode_s(1.0, 1.0)
    return list(dict.fromkeys(recorder.asked))


@dataclass(frozen=True, kw_only=True)
class _Recorder(KernelTables):
    """Tables that have nothing and keep what they were asked for."""

    asked: list[Asked] = field(default_factory=list)

    def gemm(self, operand: str, n: int, k: int) -> Curve | None:
        self.asked.append(("gemm", (operand, n, k)))
        return None

    def prefill(self, operand: str, head_dim: int, heads: int, kv_heads: int, window: int) -> Curve | None:
        self.asked.append(("prefill_attention", (operand, head_dim, heads, kv_heads, window)))
        return None

    def decode(self, operand: str, head_dim: int, heads: int, kv_heads: int, window: int) -> Surface | None:
        self.asked.append(("decode_attention", (operand, head_dim, heads, kv_heads, window)))
        return None

    def latent_prefill(self, operand: str, mla: LatentAttention, heads: int) -> Curve | None:
        self.asked.append(("mla_prefill", (operand, heads)))
        return None

    def latent_decode(self, operand: str, mla: LatentAttention, heads: int) -> Surface | None:
        self.asked.append(("mla_decode", (operand, heads)))
        return None

    def moe(self, key: Key) -> Curve | None:
        self.asked.append(("moe", key))
        return None

    def norm(self, operand: str, hidden: int) -> Curve | None:
        self.asked.append(("norm", (operand, hidden)))
        return None

    def collective(self, operation: str, gpus: int) -> Curve | None:
        self.asked.append(("collective", (operation, gpus)))
        return None
