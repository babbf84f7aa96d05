"""The GPUs of the catalogue: memory, bandwidth, arithmetic, links, MIG partitions and price, each with its source."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from profiles.catalogue_files import Provenance, checked, data_names, load_data, load_path, nearest
from profiles.errors import ProfileError

FOLDER = "gpus"
ComputeType = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"]
COMPUTE_TYPES: tuple[str, ...] = get_args(ComputeType)
HALF_PRECISION: tuple[ComputeType, ...] = ("bf16", "fp16")
Generation = Literal["volta", "ampere", "ada", "hopper", "blackwell", "cdna3", "cpu", "other"]
ASSUMED_SISTER = "h100-sxm-80gb"
ASSUMED_VISIBLE_FRACTION = 0.98


class MigProfile(BaseModel):
    """One MIG partition size: `placements` are the memory slices at which an instance of it may start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    compute_slices: PositiveInt
    memory_slices: PositiveInt
    memory_bytes: PositiveInt
    sm_count: PositiveInt
    placements: tuple[int, ...] = Field(min_length=1)


class Mig(BaseModel):
    """How a GPU can be cut into instances with memory and SMs of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    compute_slices: PositiveInt
    memory_slices: PositiveInt
    profiles: tuple[MigProfile, ...]

    @model_validator(mode="after")
    def _placements_fit(self) -> "Mig":
        for profile in self.profiles:
            if any(p < 0 or p + profile.memory_slices > self.memory_slices for p in profile.placements):
                raise ValueError(f"profile {profile.name} has a placement beyond memory slice {self.memory_slices - 1}")
        return self


class Gpu(BaseModel):
    """One kind of GPU. Rates are peak rates of the data sheet: dense arithmetic, links in one direction.

    `visible_memory_bytes` is what the driver shows, `nvlink_bytes_per_s` is per GPU and direction (0: no such link),
    `nvlink_domain_gpus` is how many GPUs that link joins. `efficiency` names this GPU's own calibration file;
    without one `sister` names the GPU whose calibration is borrowed. `kernels` names the shipped tables of kernels
    measured on this GPU, or the path of a folder with imported ones (a path has a separator).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    generation: Generation = "other"
    memory_bytes: PositiveInt
    visible_memory_bytes: PositiveInt
    memory_bandwidth_bytes_per_s: PositiveFloat
    peak_flops: Mapping[str, PositiveFloat] = Field(min_length=1)
    sm_count: PositiveInt | None = None
    l2_bytes: PositiveInt | None = None
    nvlink_bytes_per_s: NonNegativeFloat = 0.0
    nvlink_domain_gpus: PositiveInt = 1
    pcie_bytes_per_s: PositiveFloat = 32e9
    mig: Mig | None = None
    price_usd_per_gpu_hour: NonNegativeFloat | None = None
    efficiency: str | None = None
    sister: str | None = None
    kernels: str | None = None
    sources: tuple[Provenance, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Gpu":
        if self.visible_memory_bytes > self.memory_bytes:
            raise ValueError("visible_memory_bytes is larger than memory_bytes")
        if self.efficiency is None and self.sister is None:
            raise ValueError("either efficiency or sister must say which calibration to use")
        for kind in self.peak_flops:
            if kind not in COMPUTE_TYPES:
                raise ValueError(f"peak_flops: unknown type {kind!r}.{nearest(kind, COMPUTE_TYPES)}")
        if not {"bf16", "fp16", "fp32"} & set(self.peak_flops):
            raise ValueError("peak_flops needs at least one of bf16, fp16, fp32")
        return self

    @property
    def half_precision(self) -> ComputeType:
        """The 16-bit type its matrix units take (bf16, else fp16), or fp32 when they take neither."""
        for kind in HALF_PRECISION:
            if kind in self.peak_flops:
                return kind
        return "fp32"

    def flops(self, kind: ComputeType) -> float:
        """Dense peak operations per second for operands of that type; without such units, at half precision."""
        return self.peak_flops.get(kind, self.peak_flops[self.half_precision])


def gpu_names() -> tuple[str, ...]:
    """Names of the catalogue's GPUs, sorted."""
    return data_names(FOLDER)


@lru_cache(maxsize=128)
def load_gpu(name: str) -> Gpu:
    """The catalogue's GPU of that name; ProfileError with the nearest name when there is none."""
    return load_data(FOLDER, name, Gpu)


def find_gpu(named: str) -> Gpu:
    """The catalogue's GPU of that name, or that of a YAML file (anything with a separator or that ending).

    Kernel tables that a file names are looked for from its own folder. Raises ProfileError when there is none.
    """
    if "/" not in named and not named.endswith((".yaml", ".yml")):
        return load_gpu(named)
    path = Path(named)
    gpu = load_path(path, Gpu)
    if gpu.kernels is None or "/" not in gpu.kernels:
        return gpu
    return gpu.model_copy(update={"kernels": str(path.absolute().parent / gpu.kernels)})


def inline_gpu(payload: Mapping[str, Any]) -> tuple[Gpu, tuple[str, ...]]:
    """A GPU written out in a spec, and the sentences that say what was assumed for fields it left out.

    Needed: name, memory_bytes, memory_bandwidth_bytes_per_s, peak_flops. Raises ProfileError when they make no GPU.
    """
    values = dict(payload)
    assumed = []
    origin = f"GPU {values.get('name', '?')!r}"
    memory = values.get("memory_bytes")
    if "visible_memory_bytes" not in values and isinstance(memory, int | float):
        values["visible_memory_bytes"] = int(memory * ASSUMED_VISIBLE_FRACTION)
        assumed.append(f"{origin}: visible_memory_bytes taken as {ASSUMED_VISIBLE_FRACTION:.0%} of memory_bytes")
    if "efficiency" not in values and "sister" not in values:
        values["sister"] = ASSUMED_SISTER
        assumed.append(f"{origin}: kernels assumed as efficient as on {ASSUMED_SISTER} (field sister)")
    gpu = checked(values, Gpu, origin)
    for field in ("nvlink_bytes_per_s", "nvlink_domain_gpus", "pcie_bytes_per_s", "generation"):
        if field not in values:
            assumed.append(f"{origin}: {field} taken as {getattr(gpu, field)}")
    return gpu, tuple(assumed)


def mig_instance(gpu: Gpu, profile_name: str) -> Gpu:
    """One MIG instance as a GPU of its own: its memory, and bandwidth and arithmetic by its share of slices and SMs.

    It has no fast link and no further partitions; its figures are modelled on the whole GPU's calibration.
    Raises ProfileError when the GPU has no such profile.
    """
    profiles = {p.name: p for p in gpu.mig.profiles} if gpu.mig else {}
    if profile_name not in profiles or gpu.mig is None or gpu.sm_count is None:
        hint = nearest(profile_name, profiles) if profiles else " It cannot be partitioned."
        raise ProfileError(f"{gpu.name} has no MIG profile {profile_name!r}.{hint}")
    profile = profiles[profile_name]
    memory_share, sm_share = profile.memory_slices / gpu.mig.memory_slices, profile.sm_count / gpu.sm_count
    return gpu.model_copy(
        update={
            "name": f"{gpu.name}/{profile_name}",
            "memory_bytes": profile.memory_bytes,
            "visible_memory_bytes": profile.memory_bytes,
            "memory_bandwidth_bytes_per_s": gpu.memory_bandwidth_bytes_per_s * memory_share,
            "peak_flops": {kind: flops * sm_share for kind, flops in gpu.peak_flops.items()},
            "sm_count": profile.sm_count,
            "l2_bytes": int(gpu.l2_bytes * memory_share) if gpu.l2_bytes else None,
            "nvlink_bytes_per_s": 0.0,
            "nvlink_domain_gpus": 1,
            "mig": None,
            "price_usd_per_gpu_hour": None,
            "kernels": None,
        }
    )


def calibration_of(gpu: Gpu) -> str:
    """Name of the efficiency file: the GPU's own, or its sister's; ProfileError when sisters form a ring."""
    seen = [gpu.name]
    current = gpu
    while current.efficiency is None:
        if current.sister is None or current.sister in seen:
            raise ProfileError(
                f"GPU {gpu.name!r} has no calibration: its sisters lead to {current.name!r}, which has none."
            )
        current = load_gpu(current.sister)
        seen.append(current.name)
    return current.efficiency
