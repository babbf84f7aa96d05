"""Queues: one router with identical copies of a template behind it, serving demands in fixed proportions."""

from dataclasses import dataclass

from planner.capacity import PackedTable, ReplicaLimits
from planner.fleet import Pool
from profiles.calibration import Correction, find_correction
from profiles.latency_table import LatencyTable
from profiles.memory import MemoryBudget
from profiles.models import ModelArchitecture
from profiles.precision import Quantization
from profiles.step_table import StepTable


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmServing:
    """A replica of a known architecture, as the engine runs it."""

    architecture: ModelArchitecture
    table: StepTable
    packed: PackedTable
    limits: ReplicaLimits
    memory: MemoryBudget
    block_tokens: int
    kv_dtype: str
    gpu_memory_utilization: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyServing:
    """A replica known by measured latencies a batch and stage."""

    table: LatencyTable
    max_batch: int
    fixed_overhead_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityServing:
    """A replica known only by the rate that a user measured; it cannot be simulated."""

    rate_rps: float


Serving = LlmServing | LatencyServing | CapacityServing


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """GPUs of one pool acting together with the replica on them (kind: dedicated)."""

    id: str
    pool: Pool
    model: str
    quantization: str
    tp: int
    pp: int
    ep: int
    serving: Serving

    @property
    def gpus(self) -> int:
        """GPUs of one copy."""
        return self.tp * self.pp

    @property
    def correction(self) -> Correction | None:
        """The correction of a calibration that its steps were planned with, None without one."""
        if not isinstance(self.serving, LlmServing):
            return None
        layout = (Quantization(self.quantization), self.tp, self.pp, self.ep)
        return find_correction(self.pool.calibration, self.pool.gpu.name, self.serving.architecture.digest, layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """`parts`: (demand index, share of the queue's rate), shares sum to 1. `fluid_rps`: limit a copy (F0).

    `exchange`: (workload, least, most) by how much more a copy can carry, relatively, for each fraction of the
    workload's requests that misses beyond what it may (`capacity.FluidLimit`). `analytic_rps[i]` is the estimated
    capacity a copy at `BRACKETS[i]` copies, never falling with i.
    """

    index: int
    id: str
    template: Template
    parts: tuple[tuple[int, float], ...]
    analytic_rps: tuple[float, ...]
    fluid_rps: float
    exchange: tuple[tuple[int, float, float], ...]
    max_copies: int
