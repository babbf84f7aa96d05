"""Many variants of one spec, planned one by one: what varies, and the row that each variant gives."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from planner.pipeline import PlanOptions, plan_spec
from planner.plan_file import Plan
from planner.progress import Progress
from planner.spec_edit import FieldPathError, with_changes
from planner.spec_load import Loaded
from planner.spec_resolve import resolve
from planner.spec_yaml import parse_document
from profiles.csv_table import read_rows
from profiles.errors import PlanningError

MOST_VARIANTS = 100_000
REFUSED = "refused"
FIXED = (
    "termination",
    "cost_usd_per_hour",
    "bound_fluid",
    "gap_fluid_fraction",
    "gap_model_fraction",
    "gpus_bought",
    "gpus_used",
    "slo_held",
    "unmet_rps",
)

Row = dict[str, Any]
Variant = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A field that varies, and the values that it takes."""

    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A spec and its variants (path → value), in the order of the rows."""

    loaded: Loaded
    paths: tuple[str, ...]
    variants: tuple[Variant, ...]
    options: PlanOptions

    def columns(self) -> tuple[str, ...]:
        """The columns of a row, in order: what varies, the plan's figures, GPUs a pool, attainment a workload."""
        spec = self.loaded.spec
        pools = (f"gpus.{pool.name}" for pool in spec.cluster.pools)
        workloads = (f"attainment.{workload.name}" for workload in spec.workloads)
        return ("variant", *self.paths, *FIXED, *pools, *workloads, "reason")

    def key(self) -> str:
        """sha256 over all that the rows depend on: spec, files, variants, options, and this program's version."""
        said = {
            "spec": resolve(self.loaded).digest,
            "variants": [dict(v) for v in self.variants],
            "options": [self.options.solver, self.options.seed, self.options.gap_fraction, self.options.wall_limit_s],
            "version": version("muxplan"),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def parse_axis(text: str) -> Axis:
    """`PATH=v1,v2,…` (each value as in the spec's YAML) as an axis. FieldPathError when it reads otherwise."""
    path, sign, values = text.partition("=")
    if not (path and sign and values):
        raise FieldPathError(f"--vary {text[:100]}: write PATH=VALUE,VALUE,…")
    data = parse_document(f"[{values}]", f"--vary {path[:100]}").data
    if not isinstance(data, list) or not data:
        raise FieldPathError(f"--vary {text[:100]}: write PATH=VALUE,VALUE,…")
    return Axis(path=path, values=tuple(data))


def grid(axes: Sequence[Axis]) -> tuple[Variant, ...]:
    """All combinations of the axes' values, the last axis turning fastest. FieldPathError for too many."""
    paths = [axis.path for axis in axes]
    twice = next((p for p in paths if paths.count(p) > 1), None)
    if twice is not None:
        raise FieldPathError(f"--vary {twice[:100]} is given twice: put all its values into one.")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    _check_count(count)
    return tuple(dict(zip(paths, values, strict=True)) for values in product(*(axis.values for axis in axes)))


def listed(path: Path) -> tuple[Variant, ...]:
    """The variants of a CSV file: paths in its header, a variant in each line. ProfileError for a bad file."""
    rows = list(read_rows(path, ()))
    _check_count(len(rows))
    return tuple(
        {name: parse_document(text or "null", f"{path}, line {row.line}").data for name, text in row.values.items()}
        for row in rows
    )


def _check_count(count: int) -> None:
    if count > MOST_VARIANTS:
        raise FieldPathError(f"{count:,} variants are more than the {MOST_VARIANTS:,} that one sweep may have.")


def sweep_of(loaded: Loaded, variants: Sequence[Variant], options: PlanOptions) -> Sweep:
    """The sweep, with every variant's paths and values checked. FieldPathError or SpecError for the first bad one."""
    if not variants:
        raise FieldPathError("there is nothing to vary: give --vary PATH=VALUE,VALUE,… or --variants FILE.")
    for variant in variants:
        with_changes(loaded, variant)
    paths = tuple(variants[0])
    # Variants run beside each other: one that used all cores itself would only be in the way.
    alone = replace(options, workers=1, try_relaxations=False)
    return Sweep(loaded=loaded, paths=paths, variants=tuple(variants), options=alone)


def plan_variant(loaded: Loaded, variant: Variant, options: PlanOptions, progress: Progress | None = None) -> Row:
    """The row of one variant, without its number. A variant that cannot be planned as it stands is `refused`."""
    shown = {path: value if _is_scalar(value) else json.dumps(value) for path, value in variant.items()}
    try:
        plan = plan_spec(with_changes(loaded, variant), options, progress or Progress())
    except PlanningError as error:
        return {**shown, "termination": REFUSED, "reason": " ".join(str(error).split())}
    return {**shown, **plan_row(plan)}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def plan_row(plan: Plan) -> Row:
    """A plan's figures as one row: cost, bound, gaps, GPUs, attainment; None where there is no figure."""
    counts = plan.gpu_counts
    row: Row = {
        "termination": plan.termination,
        "cost_usd_per_hour": plan.cost_usd_per_hour,
        "bound_fluid": plan.bound_fluid,
        "gap_fluid_fraction": plan.gap_fluid_fraction,
        "gap_model_fraction": plan.gap_model_fraction,
        "gpus_bought": sum(c.bought for c in counts.values()) if plan.groups else None,
        "gpus_used": sum(c.used for c in counts.values()) if plan.groups else None,
        "slo_held": plan.verified.held if plan.verified else None,
        "unmet_rps": round(sum(plan.unmet.values()), 6),
        "reason": " ".join(plan.conflicts) or None,
    }
    if plan.groups:
        row.update({f"gpus.{pool}": count.bought for pool, count in counts.items()})
    row.update({f"attainment.{name}": result.attainment for name, result in plan.workloads.items()})
    return row
