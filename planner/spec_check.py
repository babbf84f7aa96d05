"""Rules between fields of a spec: names that must exist or be unique, fields that must or cannot go together."""

from collections.abc import Iterable, Sequence

from planner.spec import Model, Spec, Workload
from planner.spec_errors import Fault
from planner.spec_load import Loaded
from planner.spec_yaml import FieldPath
from profiles.catalogue_files import nearest

PLANNED_OBJECTIVES = ("serve", "cost")


def check_references(loaded: Loaded) -> list[Fault]:
    """All faults between fields; names of the catalogue are looked up elsewhere."""
    spec = loaded.spec
    found: list[tuple[FieldPath, str]] = []
    found += _duplicates(("cluster", "pools"), [p.name for p in spec.cluster.pools])
    found += _duplicates(("models",), [m.name for m in spec.models])
    found += _duplicates(("workloads",), [w.name for w in spec.workloads])
    found += _objectives(spec)
    models = {m.name: m for m in spec.models}
    for index, workload in enumerate(spec.workloads):
        path: FieldPath = ("workloads", index)
        model = models.get(workload.model)
        if model is None:
            hint = nearest(workload.model, models)
            found.append(((*path, "model"), f"no model '{workload.model[:60]}' in this spec.{hint}"))
        else:
            found += [((*path, *inner), what) for inner, what in _workload(workload, model)]
    for index, rule in enumerate(spec.constraints):
        found += _rule(("constraints", index), rule, spec)
    return [loaded.fault(path, what) for path, what in found]


def _duplicates(path: FieldPath, names: Sequence[str]) -> list[tuple[FieldPath, str]]:
    return [
        ((*path, index, "name"), f"the name '{name}' is used twice.")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def _objectives(spec: Spec) -> list[tuple[FieldPath, str]]:
    found: list[tuple[FieldPath, str]] = []
    for index, name in enumerate(spec.objectives):
        if name not in PLANNED_OBJECTIVES:
            found.append((("objectives", index), f"'{name}' is not planned for yet: use [serve, cost]."))
        elif name in spec.objectives[:index]:
            found.append((("objectives", index), f"'{name}' is given twice."))
    if not found and tuple(spec.objectives) != PLANNED_OBJECTIVES:
        found.append((("objectives",), "only [serve, cost], in this order, is planned for yet."))
    return found


def _workload(workload: Workload, model: Model) -> Iterable[tuple[FieldPath, str]]:
    slo = workload.slo
    if model.latency_table is not None:
        if slo.ttft_ms is not None or slo.tpot_ms is not None:
            yield ("slo",), "a latency-table model has no tokens: state e2e_ms, not ttft_ms or tpot_ms."
        if slo.e2e_ms is None and not workload.best_effort:
            yield ("slo",), "a latency-table model needs e2e_ms."
        if workload.tokens is not None or workload.length_classes:
            yield ("tokens",), "a latency-table model has no tokens: leave them out."
        if workload.router == "least_kv":
            yield ("router",), "a latency-table model has no KV cache: use least_loaded or round_robin."
    if model.capacity_table is not None and (slo.ttft_ms or slo.tpot_ms or slo.e2e_ms):
        yield ("slo",), "a capacity table gives rates only, latencies are not known: leave the limits out."
    no_limit = slo.ttft_ms is None and slo.tpot_ms is None and slo.e2e_ms is None
    if no_limit and not workload.best_effort and model.architecture is not None:
        yield (), "has no limit in slo: give ttft_ms, tpot_ms or e2e_ms, or set best_effort: true."


def _rule(path: FieldPath, rule: object, spec: Spec) -> Iterable[tuple[FieldPath, str]]:
    known = {
        "workload": [w.name for w in spec.workloads],
        "model": [m.name for m in spec.models],
        "pool": [p.name for p in spec.cluster.pools],
        "zone": [p.zone for p in spec.cluster.pools],
    }
    for field, names in known.items():
        value = getattr(rule, field, None)
        if value is not None and value not in names:
            yield (*path, field), f"no {field} '{str(value)[:60]}' in this spec.{nearest(str(value), names)}"
    several = getattr(rule, "workloads", ())
    for index, name in enumerate(several):
        if name not in known["workload"]:
            yield (
                (*path, "workloads", index),
                f"no workload '{name[:60]}' in this spec.{nearest(name, known['workload'])}",
            )
        elif name in several[:index]:
            yield (*path, "workloads", index), f"'{name}' is given twice."
