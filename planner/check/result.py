"""What a check found: predicted beside measured, workload by workload and group by group."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from planner.plan_file import Percentiles
from profiles.measured_steps import MeasuredSteps


class CheckPart(BaseModel):
    """Base of the parts of a check: frozen, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(CheckPart):
    """Latencies over served requests, attainment over all, and requests served a second."""

    ttft_ms: Percentiles | None
    tpot_ms: Percentiles | None
    e2e_ms: Percentiles | None
    attainment: float | None
    served_rps: float


class Remeasured(CheckPart):
    """The same requests predicted with the steps that were measured between the check's windows: what is left of the
    error when the machine has not changed since.
    """

    predicted: Figures
    error_fraction: dict[str, float]


class WorkloadCheck(CheckPart):
    """One workload. `error_fraction`: measured ÷ predicted − 1 of the medians, and the difference of attainment."""

    requests: int
    predicted: Figures
    measured: Figures
    error_fraction: dict[str, float]
    remeasured: Remeasured | None = None
    held: bool
    why: tuple[str, ...] = ()


class Slowdown(CheckPart):
    """What sharing a device costs a group: its medians with the neighbours busy ÷ with them idle, measured."""

    neighbours: tuple[str, ...]
    tpot_factor: float | None
    ttft_factor: float | None


class Requests(CheckPart):
    """The requests that a group got, in order, and what came of them (None: not served). Seconds and tokens."""

    due_s: tuple[float, ...]
    input_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    ttft_s: tuple[float | None, ...]
    tpot_s: tuple[float | None, ...]


class GroupCheck(CheckPart):
    """One group's engine. KV in tokens of all its blocks; processor time of its worker for a step of a burst that keeps
    it busy (CPU engines whose profile has it): a busy machine does not stretch that. `steps`: as measured between the
    windows, and what they give for the worker.
    """

    queue: str
    model: str
    devices: tuple[int, ...]
    start_s: float
    kv_tokens_predicted: int | None
    kv_tokens_measured: int | None
    worker_step_ms_predicted: float | None = None
    worker_step_ms_measured: float | None = None
    worker_step_ms_remeasured: float | None = None
    steps: MeasuredSteps | None = None
    preemptions: int
    kv_used_peak_fraction: float
    waiting_peak: int
    slowdown: Slowdown | None = None
    requests: Requests


MEASURED, SIMULATED = "measured", "simulated"


class CheckResult(CheckPart):
    """A whole check. `ended` says why when it did not run to its end; what was measured until then is kept."""

    version: Literal[1] = 1
    plan: str
    spec_digest: str
    level: Literal["simulator", "kernels", "vllm", "endpoint"]
    engine: str
    tolerance_fraction: float
    seed: int
    duration_s: float
    windows: int
    workloads: dict[str, WorkloadCheck]
    groups: dict[str, GroupCheck]
    left_out: tuple[str, ...] = ()
    client_lag_p99_ms: float | None = None
    client_lagged: bool = False
    errors: dict[str, int] = {}
    """What requests failed with → how many."""
    notes: tuple[str, ...] = ()
    ended: str | None = None
    held: bool

    @property
    def seen(self) -> str:
        """What the figures that stand beside the predicted ones are: nothing is measured in a simulator."""
        return SIMULATED if self.level == "simulator" else MEASURED
