"""The plan: one versioned frozen object, written as YAML, printed as JSON, with a JSON Schema."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from profiles.evidence import Evidence

Name = Annotated[str, Field(min_length=1, max_length=63)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Limit = Annotated[float, Field(gt=0)]


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

    max_num_seqs: Count
    max_num_batched_tokens: Count
    max_model_len: Count
    kv_cache_memory_bytes: Whole
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: Fraction
    enable_expert_parallel: bool = False
    enable_prefix_caching: bool = True


class Replica(Part):
    """One running copy of a model inside a group."""

    model: str
    architecture: str | None = None
    quantization: str
    role: Literal["both", "prefill", "decode"] = "both"
    sm_fraction: Fraction = 1.0
    """Its share of the GPU's multiprocessors where replicas share one."""
    mig_profile: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    """The MIG instance that it runs on, by the name that the GPU's driver gives it (3g.71gb); None without MIG."""
    memory_bytes: Whole
    kv_tokens: Whole
    engine: EngineSettings | None = None
    """None for a model known only by a latency or capacity table."""
    batch: Count | None = None
    """Largest batch of a latency-table replica."""


class GpuId(Part):
    """One GPU of the fleet."""

    node: str
    index: Whole


class Group(Part):
    """GPUs that act together, with the replicas on them."""

    id: str
    template: str
    queue: str
    kind: Literal["dedicated", "colocated", "multiplexed", "disaggregated"] = "dedicated"
    pool: str
    gpu: str
    gpu_ids: Annotated[tuple[GpuId, ...], Field(min_length=1)]
    tp: Count
    pp: Count
    ep: Count
    replicas: Annotated[tuple[Replica, ...], Field(min_length=1)]


class Route(Part):
    """The share of a workload's requests that goes to one group; the weights of a workload sum to 1."""

    group: str
    weight_fraction: Fraction
    input_tokens_max: Count | None = None
    """Set when requests are split by length class: this route takes prompts up to this many tokens."""


class GpuCount(Part):
    """GPUs of one pool."""

    bought: Whole
    used: Whole
    nodes: Whole
    price_usd_per_gpu_hour: Amount
    billing: Literal["on_demand", "spot", "reserved"]


class WorkloadResult(Part):
    """What a workload gets. Latencies are over served requests; None where the quantity does not exist for it."""

    model: str
    best_effort: bool = False
    rate_rps: Amount
    served_rps: Amount
    capacity_rps: Amount
    attainment: Fraction | None
    attainment_target: Fraction | None
    attainment_standard_error: float | None = None
    ttft_ms: Percentiles | None
    tpot_ms: Percentiles | None
    e2e_ms: Percentiles | None
    slo: dict[str, Limit]
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

    @model_validator(mode="after")
    def _names_what_it_holds(self) -> Self:
        """Everything named is there: routes lead to groups, groups stand in pools that are counted and paid."""
        groups = {group.id for group in self.groups}
        if len(groups) < len(self.groups):
            raise ValueError("two groups have one id")
        if groups and self.cost_usd_per_hour is None:
            raise ValueError("there are groups, but no cost_usd_per_hour")
        for group in self.groups:
            if group.pool not in self.gpu_counts:
                raise ValueError(f"group {group.id[:80]} stands in {group.pool[:80]}, which gpu_counts does not have")
        for workload, routes in self.routes.items():
            if workload not in self.workloads:
                raise ValueError(f"routes of {workload[:80]}, which workloads does not have")
            for route in routes:
                if route.group not in groups:
                    raise ValueError(f"{workload[:80]} is routed to {route.group[:80]}, which is no group")
        return self
