"""The pools of a spec with their GPUs resolved: what can be bought or is given, in SI units."""

from dataclasses import dataclass
from typing import Literal

from profiles.calibration import Calibration
from profiles.gpus import Gpu
from profiles.measured_steps import MeasuredSteps


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """GPUs of one kind. `given` nodes exist already; others are bought as needed, up to `max_nodes`."""

    index: int
    name: str
    gpu: Gpu
    max_nodes: int
    given: bool
    buys_nodes: bool
    gpus_per_node: int
    racks: int
    zone: str
    price_usd_per_gpu_hour: float
    billing: Literal["on_demand", "spot", "reserved"]
    intra_node_bytes_per_s: float | None
    inter_node_bytes_per_s: float | None
    steps: tuple[MeasuredSteps, ...] = ()
    """Step times measured on the device; models that have them are planned by them."""
    calibration: Calibration | None = None
    """What was measured of deployments on these GPUs."""

    @property
    def price_in_objective(self) -> float:
        """USD per GPU-hour that a decision changes: nothing for reserved GPUs, which are paid either way."""
        return 0.0 if self.billing == "reserved" else self.price_usd_per_gpu_hour

    @property
    def sunk_usd_per_hour(self) -> float:
        """What the reserved GPUs of the pool cost, used or not."""
        if self.billing != "reserved":
            return 0.0
        return self.price_usd_per_gpu_hour * self.max_nodes * self.gpus_per_node

    @property
    def domain_gpus(self) -> int:
        """GPUs of one node that a fast link joins; 1 where there is none."""
        return min(self.gpu.nvlink_domain_gpus, self.gpus_per_node)

    def rack_of(self, node: int) -> int:
        """Rack of a node of the pool: nodes fill racks in turn."""
        return node % self.racks

    def node_name(self, node: int) -> str:
        """Name of a node as the plan writes it."""
        return f"{self.name}-{node}"
