"""The constraints of a spec: named words, told apart by `kind`."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Domain = Literal["node", "rack", "zone"]
Number = Annotated[int, Field(ge=0, le=1_000_000)]


class Word(BaseModel):
    """A constraint: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Subject(Word):
    """A constraint on a workload, or on every workload of a model."""

    workload: str | None = None
    model: str | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.workload is None) == (self.model is None):
            raise ValueError("give exactly one of workload and model")
        return self


class MaxGpus(Word):
    """At most `count` GPUs are paid for, in one pool or in all."""

    kind: Literal["max_gpus"]
    pool: str | None = None
    count: Number


class Budget(Word):
    """At most so much is paid an hour."""

    kind: Literal["budget"]
    usd_per_hour: Annotated[float, Field(ge=0, le=1e9)]


class MinReplicas(Subject):
    """At least `count` replicas."""

    kind: Literal["min_replicas"]
    pool: str | None = None
    count: Number


class MaxReplicas(Subject):
    """At most `count` replicas."""

    kind: Literal["max_replicas"]
    pool: str | None = None
    count: Number


class Spread(Subject):
    """Replicas stand in at least `min_domains` nodes, racks or zones."""

    kind: Literal["spread"]
    over: Domain
    min_domains: Annotated[int, Field(ge=2, le=10_000)]


class Avoid(Subject):
    """Not on this pool."""

    kind: Literal["avoid"]
    pool: str


class Pin(Subject):
    """Only on this pool, or in this zone."""

    kind: Literal["pin"]
    pool: str | None = None
    zone: str | None = None

    @model_validator(mode="after")
    def _names_a_place(self) -> Self:
        if self.pool is None and self.zone is None:
            raise ValueError("give pool or zone")
        return self


class NeverTogether(Word):
    """No two of the workloads share a node, rack or zone."""

    kind: Literal["never_together"]
    workloads: Annotated[tuple[str, ...], Field(min_length=2, max_length=100)]
    over: Domain = "node"


class Survive(Word):
    """After the loss of any one node, rack or zone, `fraction` of the rate is still served."""

    kind: Literal["survive"]
    workload: str
    loss: Domain
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


Constraint = Annotated[
    MaxGpus | Budget | MinReplicas | MaxReplicas | Spread | Avoid | Pin | NeverTogether | Survive,
    Field(discriminator="kind"),
]
