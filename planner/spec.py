"""The spec: what a user asks for. One frozen object; field names are a contract (`version: 1`)."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from planner.spec_words import Constraint

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
MOST_POOLS = 64
MOST_MODELS = 500
MOST_WORKLOADS = 500


def _safe_name(value: str) -> str:
    if NAME.fullmatch(value):
        return value
    mended = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("-._")[:63] or "name"
    raise ValueError(
        f"'{value[:80]}' is not a name: use a-z, 0-9, '.', '_' and '-', at most 63, for example '{mended}'"
    )


Name = Annotated[str, AfterValidator(_safe_name)]
# A name of the catalogue or of a file: bounded and printable, so that messages and paths are.
Reference = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Cv = Annotated[float, Field(ge=0, le=50)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class SpecPart(BaseModel):
    """A piece of a spec: frozen, unknown fields refused, numbers finite, nothing converted from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Interconnect(SpecPart):
    """Bandwidths per GPU in Gbit/s; default: the catalogue's."""

    intra_node_gbps: Positive | None = None
    inter_node_gbps: Positive | None = None


class Pool(SpecPart):
    """GPUs of one kind: given (`nodes`) or bought as needed up to `max_nodes`."""

    name: Name
    gpu: Reference | dict[str, Any]
    nodes: Count | None = None
    max_nodes: Count | None = None
    buy: Literal["node", "gpu"] = "node"
    gpus_per_node: Annotated[int, Field(ge=1, le=128)] = 8
    racks: Count = 1
    zone: Annotated[str, Field(min_length=1, max_length=63)] = "zone-1"
    price_usd_per_gpu_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    billing: Literal["on_demand", "spot", "reserved"] = "on_demand"
    interconnect: Interconnect = Interconnect()
    sharing: tuple[Literal["mps", "mig", "time_slicing"], ...] = ()

    @model_validator(mode="after")
    def _one_supply(self) -> Self:
        if (self.nodes is None) == (self.max_nodes is None):
            raise ValueError("give exactly one of nodes (they exist) and max_nodes (bought as needed)")
        if self.racks > (self.nodes or self.max_nodes or 1):
            raise ValueError(f"racks ({self.racks}) is more than the nodes ({self.nodes or self.max_nodes})")
        return self


class Cluster(SpecPart):
    """The supply."""

    pools: Annotated[tuple[Pool, ...], Field(min_length=1, max_length=MOST_POOLS)]


class Parallelism(SpecPart):
    """Values to search; `forbidden` names combinations that are left out."""

    tp: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1)] | None = None
    pp: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1)] = (1,)
    ep: Annotated[tuple[Annotated[int, Field(ge=1, le=512)], ...], Field(min_length=1)] | None = None
    forbidden: tuple[dict[Literal["tp", "pp", "ep"], int], ...] = ()


class Model(SpecPart):
    """A model of the catalogue (or a config.json), or one known only by measurement."""

    name: Name
    architecture: Reference | None = None
    latency_table: Reference | None = None
    capacity_table: Reference | None = None
    quantizations: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    parallelism: Parallelism = Parallelism()
    max_model_len: Tokens | None = None
    kv_cache_dtype: Literal["bf16", "fp16", "fp8"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [f for f in ("architecture", "latency_table", "capacity_table") if getattr(self, f) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of architecture, latency_table and capacity_table")
        return self


class Moments(SpecPart):
    """Mean and coefficient of variation of a length in tokens (lognormal; cv 0: fixed)."""

    mean: Annotated[float, Field(ge=1, le=1e7)]
    cv: Cv = 1.0


class TokenLengths(SpecPart):
    """Lengths by moments, by the name of a shipped trace's figures, or from a trace file."""

    input: Moments | None = None
    output: Moments | None = None
    lengths: Reference | None = None
    trace: Reference | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        moments = self.input is not None or self.output is not None
        if moments and (self.input is None or self.output is None):
            raise ValueError("input and output go together")
        if moments + (self.lengths is not None) + (self.trace is not None) != 1:
            raise ValueError("give exactly one of {input, output}, lengths and trace")
        return self


class TrafficSpec(SpecPart):
    """Arrivals: a rate, hourly rates, or a recorded trace."""

    rate_rps: Rate | None = None
    hourly_rps: Annotated[tuple[Rate, ...], Field(min_length=1, max_length=8784)] | None = None
    trace: Reference | None = None
    burstiness_cv: Cv | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(v is not None for v in (self.rate_rps, self.hourly_rps, self.trace)) != 1:
            raise ValueError("give exactly one of rate_rps, hourly_rps and trace")
        if self.trace is not None and self.burstiness_cv is not None:
            raise ValueError("a trace has its own burstiness: leave burstiness_cv out")
        return self


class Slo(SpecPart):
    """Limits in milliseconds that a request meets together, and the share of requests that must."""

    ttft_ms: Positive | None = None
    tpot_ms: Positive | None = None
    e2e_ms: Positive | None = None
    attainment: Annotated[float, Field(gt=0, le=0.9999)] = 0.99


class Workload(SpecPart):
    """A stream of requests to a model with an SLO."""

    name: Name
    model: str
    traffic: TrafficSpec
    tokens: TokenLengths | None = None
    slo: Slo = Slo()
    priority: Annotated[int, Field(ge=1, le=100)] = 1
    best_effort: bool = False
    length_classes: Annotated[tuple[Tokens, ...], Field(max_length=7)] = ()
    router: Literal["least_loaded", "round_robin", "least_kv"] = "least_loaded"
    prefix_cache_hit_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _classes_rise(self) -> Self:
        if list(self.length_classes) != sorted(set(self.length_classes)):
            raise ValueError("length_classes must be increasing input lengths")
        return self


class Spec(SpecPart):
    """A planning task."""

    version: Literal[1]
    name: Name = "fleet"
    engine: Reference = "vllm"
    cluster: Cluster
    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=MOST_MODELS)]
    workloads: Annotated[tuple[Workload, ...], Field(min_length=1, max_length=MOST_WORKLOADS)]
    objectives: Annotated[
        tuple[Literal["serve", "cost", "attainment", "best_effort", "moves", "spread", "energy"], ...],
        Field(min_length=1),
    ] = ("serve", "cost")
    allow_unmet: bool = False
    constraints: tuple[Constraint, ...] = ()
    current: Reference | None = None
    calibration: Reference | None = None
    """File that `muxplan calibrate` wrote."""
