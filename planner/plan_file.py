"""The plan: one versioned frozen object, written as YAML, printed as JSON, with a JSON Schema."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from profiles.evidence import Evidence

Name = Annotated[str, Field(min_length=1, max_length=63)]


class Part(BaseModel):
    """A piece of a plan: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Percentiles(Part):
    """A latency over all requests of a workload, in milliseconds."""

    mean: float
    p50: float
    p90: float
    p99: float


class FigureEvidence(Part):
    """Where a workload's figures come from: the headline class and the share of step time in each class."""

    headline: Evidence
    shares: dict[Evidence, float]
    expected_error_fraction: float | None = None
    note: str = ""


class EngineSettings(Part):
    """What the engine is told at start, in the engine's own terms."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    kv_cache_memory_bytes: int
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float
    enable_expert_parallel: bool = False
    enable_prefix_caching: bool = True


class Replica(Part):
    """One running copy of a model inside a group."""

    model: str
    architecture: str | None = None
    quantization: str
    role: Literal["both", "prefill", "decode"] = "both"
    sm_fraction: float = 1.0
    memory_bytes: int
    kv_tokens: int
    engine: EngineSettings | None = None
    """None for a model known only by a latency or capacity table."""
    batch: int | None = None
    """Largest batch of a latency-table replica."""


class GpuId(Part):
    """One GPU of the fleet."""

    node: str
    index: int


class Group(Part):
    """GPUs that act together, with the replicas on them."""

    id: str
    template: str
    queue: str
    kind: Literal["dedicated", "colocated", "multiplexed", "disaggregated"] = "dedicated"
    pool: str
    gpu: str
    gpu_ids: tuple[GpuId, ...]
    tp: int
    pp: int
    ep: int
    replicas: tuple[Replica, ...]


class Route(Part):
    """The share of a workload's requests that goes to one group; the weights of a workload sum to 1."""

    group: str
    weight_fraction: float
    input_tokens_max: int | None = None
    """Set when requests are split by length class: this route takes prompts up to this many tokens."""


class GpuCount(Part):
    """GPUs of one pool."""

    bought: int
    used: int
    nodes: int
    price_usd_per_gpu_hour: float
    billing: Literal["on_demand", "spot", "reserved"]


class WorkloadResult(Part):
    """What a workload gets. Latencies are over served requests; None where the quantity does not exist for it."""

    model: str
    best_effort: bool = False
    rate_rps: float
    served_rps: float
    capacity_rps: float
    attainment: float | None
    attainment_target: float | None
    attainment_standard_error: float | None = None
    ttft_ms: Percentiles | None
    tpot_ms: Percentiles | None
    e2e_ms: Percentiles | None
    slo: dict[str, float]
    evidence: FigureEvidence


class Verified(Part):
    """How the plan was verified by simulation."""

    held: bool
    draws: int
    requests_per_draw: dict[str, int]
    rule: str = "mean − 2 · standard error ≥ attainment"
    confidence_note: str = ""


class Slack(Part):
    """A copy that could go as far as the figures say, and why it stays."""

    queue: str
    copies: int
    reason: str


class Relaxation(Part):
    """One change that would make a plan possible, in units a person can act on."""

    what: str
    field: str
    now: float | str | None = None
    needed: float | str | None = None
    sufficient: bool = False
    """True when the planner re-planned with the change and found a plan."""


class Plan(Part):
    """The answer of `muxplan plan`: a plan, or why there is none."""

    version: Literal[1] = 1
    name: str
    engine: str
    termination: Literal["optimal", "feasible", "infeasible", "time_limit", "cancelled"]
    cost_usd_per_hour: float | None
    sunk_usd_per_hour: float = 0.0
    objectives: dict[str, float]
    bound_fluid: float | None
    gap_fluid_fraction: float | None
    bound_model: float | None
    gap_model_fraction: float | None
    bound_scope: str
    verified: Verified | None
    gpu_counts: dict[str, GpuCount]
    groups: tuple[Group, ...]
    routes: dict[str, tuple[Route, ...]]
    workloads: dict[str, WorkloadResult]
    unmet: dict[str, float]
    slack: tuple[Slack, ...] = ()
    assumptions: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    seed: int
    spec_digest: str
    spec: dict[str, object]
    """The spec as understood, defaults filled in: a plan can be simulated and exported without the spec file."""
    wall_s: dict[str, float] | None = None
    """Seconds per stage; only in `plan --json`, never in the file."""
