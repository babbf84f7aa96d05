"""Looks up every name of a spec and turns it into pools, models, workloads and demands in SI units."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import TypeVar

import numpy as np

from planner.demand import Demand, SloLimits, WorkloadDemand
from planner.fleet import Pool
from planner.spec import Model, Slo, TokenLengths, Workload
from planner.spec import Pool as PoolSpec
from planner.spec_check import check_references
from planner.spec_errors import Fault, SpecError
from planner.spec_load import Loaded, digest_of
from planner.spec_yaml import FieldPath
from planner.templates import ModelPlan
from planner.trace_file import Trace, read_trace
from planner.traffic import ProcessTraffic, Traffic, trace_traffic
from profiles.calibration import Calibration, load_calibration
from profiles.capacity_table import CapacityTable, read_capacity_tables
from profiles.engines import Engine, is_engine_file, load_engine
from profiles.errors import PlanningError, ProfileError
from profiles.gpus import Gpu, gpu_names, inline_gpu, load_gpu
from profiles.kernel_store import INDEX
from profiles.kernel_table import load_tables
from profiles.latency_table import LatencyTable, read_latency_tables
from profiles.lengths import LengthDistribution, load_lengths, moment_lengths, trace_lengths
from profiles.measured_steps import MeasuredSteps, load_device
from profiles.models import load_model
from profiles.precision import KvDtype, Quantization, loads_as
from profiles.units import s_from_ms

BITS_PER_BYTE = 8
LENGTH_SAMPLE = 20_000
LENGTH_STEP = 1024
Found = TypeVar("Found")
TableKey = TypeVar("TableKey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The spec in SI units. `latency` and `capacity`: tables of the models known only by measurement."""

    pools: tuple[Pool, ...]
    models: Mapping[str, ModelPlan]
    latency: Mapping[str, Mapping[tuple[str, int, int], LatencyTable]]
    capacity: Mapping[str, Mapping[str, CapacityTable]]
    workloads: tuple[WorkloadDemand, ...]
    demands: tuple[Demand, ...]
    engine: Engine
    assumptions: tuple[str, ...]
    digest: str


@dataclass(slots=True)
class Resolver:
    """Collects faults instead of stopping at the first."""

    loaded: Loaded
    faults: list[Fault] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def run(self) -> Resolved:
        """Everything looked up. SpecError with all faults found."""
        spec = self.loaded.spec
        self.faults += check_references(self.loaded)
        engine = self._try(("engine",), self._engine)
        named = spec.engine if engine is None else engine.name
        calibration = self._calibration(named)
        pools = [self._pool(i, p, calibration, named) for i, p in enumerate(spec.cluster.pools)]
        architectures = {m.name: self._architecture(i, m) for i, m in enumerate(spec.models)}
        latency = self._tables("latency_table", read_latency_tables)
        capacity = self._tables("capacity_table", read_capacity_tables)
        traffic = [self._traffic(i, w) for i, w in enumerate(spec.workloads)]
        self._stop_on_faults()
        assert engine is not None
        workloads, demands = self._demands([t for t in traffic if t is not None])
        self._stop_on_faults()
        models = {m.name: self._model(i, m, architectures, workloads) for i, m in enumerate(spec.models)}
        self._stop_on_faults()
        return Resolved(
            pools=tuple(p for p in pools if p is not None),
            models={name: m for name, m in models.items() if m is not None},
            latency=latency,
            capacity=capacity,
            workloads=workloads,
            demands=demands,
            engine=engine,
            assumptions=tuple(dict.fromkeys(self.assumptions)),
            digest=digest_of(self.loaded, self.files),
        )

    def _try(self, path: FieldPath, find: Callable[[], Found]) -> Found | None:
        try:
            return find()
        except PlanningError as error:
            self.faults.append(self.loaded.fault(path, str(error)))
            return None

    def _stop_on_faults(self) -> None:
        if self.faults:
            ordered = sorted(dict.fromkeys(self.faults), key=lambda f: (f.line, f.field))
            raise SpecError(self.loaded.document.file, ordered)

    def _engine(self) -> Engine:
        named = self.loaded.spec.engine
        if not is_engine_file(named):
            return load_engine(named)
        return self._read(lambda path: load_engine(str(path)), named)

    def _calibration(self, engine: str) -> Calibration | None:
        name = self.loaded.spec.calibration
        if name is None:
            return None
        found = self._try(("calibration",), lambda: self._read(load_calibration, name))
        if found is not None and found.engine != engine:
            what = f"was made with the engine {found.engine}, the spec plans for {engine}."
            self.faults.append(self.loaded.fault(("calibration",), what))
        return found

    def _pool(self, index: int, pool: PoolSpec, calibration: Calibration | None, engine: str) -> Pool | None:
        found = self._try(("cluster", "pools", index, "gpu"), lambda: self._gpu(pool, engine))
        if found is None:
            return None
        gpu, steps = found
        price = pool.price_usd_per_gpu_hour
        if price is None:
            price = gpu.price_usd_per_gpu_hour
            if price is None:
                path: FieldPath = ("cluster", "pools", index)
                what = f"the catalogue has no price for {gpu.name}: give price_usd_per_gpu_hour."
                self.faults.append(self.loaded.fault(path, what))
                return None
            self.assumptions.append(f"{gpu.name} at {price:g} USD per GPU-hour (catalogue, on demand)")
        intra, inter = pool.interconnect.intra_node_gbps, pool.interconnect.inter_node_gbps
        return Pool(
            index=index,
            name=pool.name,
            gpu=gpu,
            max_nodes=pool.nodes or pool.max_nodes or 1,
            given=pool.nodes is not None,
            buys_nodes=pool.buy == "node",
            gpus_per_node=pool.gpus_per_node,
            racks=pool.racks,
            zone=pool.zone,
            price_usd_per_gpu_hour=price,
            billing=pool.billing,
            intra_node_bytes_per_s=None if intra is None else intra * 1e9 / BITS_PER_BYTE,
            inter_node_bytes_per_s=None if inter is None else inter * 1e9 / BITS_PER_BYTE,
            steps=steps,
            calibration=calibration,
        )

    def _gpu(self, pool: PoolSpec, engine: str) -> tuple[Gpu, tuple[MeasuredSteps, ...]]:
        """A GPU of the catalogue, of a device profile (a path), or written out."""
        if isinstance(pool.gpu, str):
            if "/" in pool.gpu or pool.gpu.endswith((".yaml", ".yml")):
                profile = self._read(load_device, pool.gpu)
                if isinstance(profile, Gpu):
                    return self._file_tables(profile, pool.gpu), ()
                if profile.engine != engine:
                    raise ProfileError(
                        f"{pool.gpu} was measured with the engine {profile.engine}, the spec plans for {engine}."
                    )
                return profile.gpu, profile.steps
            return load_gpu(pool.gpu), ()
        gpu, assumed = inline_gpu(pool.gpu)
        self.assumptions.extend(assumed)
        if gpu.kernels is not None and "/" in gpu.kernels:
            gpu = self._with_tables(gpu, gpu.kernels)
        return gpu, ()

    def _file_tables(self, gpu: Gpu, named: str) -> Gpu:
        """The GPU of a file; its kernel tables are looked for from the file's own folder."""
        if gpu.kernels is None or "/" not in gpu.kernels:
            return gpu
        return self._with_tables(gpu, str(Path(named).parent / gpu.kernels))

    def _with_tables(self, gpu: Gpu, folder: str) -> Gpu:
        """The GPU with its own kernel tables, which must load; the index holds their digests."""
        found = gpu.model_copy(update={"kernels": str(self.loaded.path(folder))})
        self._read(lambda index: load_tables(index.parent, found), f"{folder}/{INDEX}")
        return found

    def _architecture(self, index: int, model: Model) -> object | None:
        if model.architecture is None:
            return None
        named = model.architecture
        path: FieldPath = ("models", index, "architecture")
        if "/" in named or named.endswith(".json"):
            return self._try(path, lambda: self._read(lambda file: load_model(str(file)), named))
        return self._try(path, lambda: load_model(named))

    def _tables(
        self, kind: str, read: Callable[[Path], Mapping[TableKey, Found]]
    ) -> dict[str, Mapping[TableKey, Found]]:
        found = {}
        for index, model in enumerate(self.loaded.spec.models):
            name = getattr(model, kind)
            if name is None:
                continue
            path: FieldPath = ("models", index, kind)
            table = self._try(path, partial(self._read, read, name))
            if table is not None:
                found[model.name] = table
                self._known_gpus(path, {str(key[0]) if isinstance(key, tuple) else str(key) for key in table})
        return found

    def _known_gpus(self, path: FieldPath, names: Iterable[str]) -> None:
        inline = {p.gpu["name"] for p in self.loaded.spec.cluster.pools if isinstance(p.gpu, dict) and "name" in p.gpu}
        for name in sorted(set(names) - set(gpu_names()) - inline):
            self._try(path, partial(load_gpu, name))

    def _read(self, read: Callable[[Path], Found], name: str) -> Found:
        """What a file that the spec names holds; its bytes enter the spec's digest."""
        path = self.loaded.path(name)
        found = read(path)
        # Only now: the reader has refused what is no file of a bounded size.
        self.files[name] = path.read_bytes()
        return found

    def _traffic(self, index: int, workload: Workload) -> Traffic | None:
        path: FieldPath = ("workloads", index)
        given = workload.traffic
        trace = None
        if given.trace is not None:
            name = given.trace
            trace = self._try((*path, "traffic", "trace"), lambda: self._read(read_trace, name))
            if trace is None:
                return None
        lengths = self._lengths(path, workload.tokens, trace, measured=self._measured(workload))
        if lengths is None:
            return None
        if trace is not None:
            return trace_traffic(trace, lengths)
        cv = 1.0 if given.burstiness_cv is None else given.burstiness_cv
        if given.hourly_rps is not None:
            peak = max(given.hourly_rps)
            self.assumptions.append(f"{workload.name}: planned for its peak hour, {peak:g} requests/s")
            return ProcessTraffic(rate_rps=peak, cv=cv, lengths=lengths)
        return ProcessTraffic(rate_rps=given.rate_rps or 1.0, cv=cv, lengths=lengths)

    def _measured(self, workload: Workload) -> bool:
        return any(m.name == workload.model and m.latency_table is not None for m in self.loaded.spec.models)

    def _lengths(
        self, path: FieldPath, tokens: TokenLengths | None, trace: Trace | None, *, measured: bool
    ) -> LengthDistribution | None:
        if tokens is None:
            if trace is not None and (trace.has_tokens or measured):
                return trace_lengths(trace.input_tokens, trace.output_tokens)
            if measured:
                return moment_lengths(input_mean=1, input_cv=0, output_mean=1, output_cv=0)
            self.faults.append(self.loaded.fault(path, "tokens is missing: give lengths, or a trace that has them."))
            return None
        here = (*path, "tokens")
        if tokens.lengths is not None:
            name = tokens.lengths
            return self._try((*here, "lengths"), lambda: load_lengths(name))
        if tokens.trace is not None:
            file = tokens.trace
            own = self._try((*here, "trace"), lambda: self._read(read_trace, file))
            return None if own is None else trace_lengths(own.input_tokens, own.output_tokens)
        assert tokens.input is not None and tokens.output is not None
        first, second = tokens.input, tokens.output
        return self._try(
            here,
            lambda: moment_lengths(
                input_mean=first.mean, input_cv=first.cv, output_mean=second.mean, output_cv=second.cv
            ),
        )

    def _demands(self, traffic: list[Traffic]) -> tuple[tuple[WorkloadDemand, ...], tuple[Demand, ...]]:
        demands: list[Demand] = []
        workloads = []
        for index, (workload, stream) in enumerate(zip(self.loaded.spec.workloads, traffic, strict=True)):
            classes = self._classes(index, workload, stream, len(demands))
            demands.extend(classes)
            workloads.append(
                WorkloadDemand(
                    index=index,
                    name=workload.name,
                    model=workload.model,
                    rate_rps=stream.mean_rate_rps,
                    slo=limits_of(workload.slo),
                    attainment=workload.slo.attainment,
                    priority=workload.priority,
                    best_effort=workload.best_effort,
                    traffic=stream,
                    router=workload.router,
                    cached_fraction=workload.prefix_cache_hit_fraction,
                    classes=tuple(d.index for d in classes),
                )
            )
        return tuple(workloads), tuple(demands)

    def _classes(self, index: int, workload: Workload, stream: Traffic, first: int) -> list[Demand]:
        edges = [0.0, *map(float, workload.length_classes), inf]
        found: list[Demand] = []
        for low, high in pairwise(edges):
            path: FieldPath = ("workloads", index, "length_classes")
            restricted = self._try(path, partial(stream.lengths.restricted, low, high))
            if restricted is not None:
                part = restricted[1]
                found.append(
                    Demand(
                        index=first + len(found),
                        workload=index,
                        low_tokens=low,
                        high_tokens=high,
                        rate_rps=stream.mean_rate_rps * part,
                    )
                )
        return found

    def _model(
        self, index: int, model: Model, architectures: Mapping[str, object], workloads: tuple[WorkloadDemand, ...]
    ) -> ModelPlan | None:
        from profiles.models import ModelArchitecture

        architecture = architectures.get(model.name)
        if not isinstance(architecture, ModelArchitecture):
            return None
        quantizations = self._quantizations(index, model, architecture.dtype)
        length = model.max_model_len
        if length is None:
            length = self._default_length(model, architecture.max_position_embeddings, workloads)
        if model.parallelism.tp is None:
            self.assumptions.append(f"{model.name}: tp 1, 2, 4, 8 and 16 are tried, as far as a node has GPUs")
        return ModelPlan(
            name=model.name,
            architecture=architecture,
            quantizations=quantizations,
            tp=model.parallelism.tp,
            pp=model.parallelism.pp,
            ep=model.parallelism.ep,
            forbidden=tuple((f.get("tp", 0), f.get("pp", 0), f.get("ep", 0)) for f in model.parallelism.forbidden),
            max_model_len=length,
            kv_dtype=None if model.kv_cache_dtype is None else KvDtype(model.kv_cache_dtype),
        )

    def _quantizations(self, index: int, model: Model, native: Quantization) -> tuple[Quantization, ...]:
        if model.quantizations is None:
            self.assumptions.append(f"{model.name}: weights in {native}, the model's own")
            return (native,)
        found = []
        for position, name in enumerate(model.quantizations):
            if name not in list(Quantization):
                what = f"'{name[:40]}' is not known. Known: {', '.join(Quantization)}."
                self.faults.append(self.loaded.fault(("models", index, "quantizations", position), what))
            else:
                found.append(Quantization(name))
        for other in found:
            if not loads_as(native, other):
                self.assumptions.append(
                    f"{model.name}: {other} needs a checkpoint stored so; that of {model.architecture} is {native}, and"
                    " an export of such a plan is refused"
                )
        return tuple(found)

    def _default_length(self, model: Model, most: int, workloads: tuple[WorkloadDemand, ...]) -> int:
        rng = np.random.default_rng(0)
        longest = 1
        for workload in workloads:
            if workload.model == model.name:
                inputs, outputs = workload.traffic.lengths.sample(LENGTH_SAMPLE, rng)
                longest = max(longest, int((inputs + outputs).max()))
        length = min(most, -(-longest // LENGTH_STEP) * LENGTH_STEP)
        self.assumptions.append(
            f"{model.name}: max_model_len {length} (the longest of {LENGTH_SAMPLE:,} sampled requests, at most {most})"
        )
        return length


def limits_of(slo: Slo) -> SloLimits:
    """The limits in seconds, infinite where there is none."""

    def seconds(limit_ms: float | None) -> float:
        return inf if limit_ms is None else s_from_ms(limit_ms)

    return SloLimits(ttft_s=seconds(slo.ttft_ms), tpot_s=seconds(slo.tpot_ms), e2e_s=seconds(slo.e2e_ms))


def resolve(loaded: Loaded) -> Resolved:
    """Everything the spec names, looked up. SpecError with all faults found."""
    return Resolver(loaded).run()
