"""A check as text of at most 100 columns."""

from collections.abc import Mapping

from planner.check.result import CheckResult, Figures, GroupCheck, WorkloadCheck
from planner.plan_file import Percentiles
from planner.render_plan import printable, wrapped

HEAD = ("workload", "", "requests", "TTFT p50/p99 ms", "TPOT p50/p99", "e2e p50/p99 ms", "attained", "req/s")
WIDTHS = (-15, -10, 8, 16, 13, 16, 8, 7)
NAME_WIDTH = 15


def render_check(result: CheckResult) -> str:
    """Predicted beside measured, workload by workload, then the engines, and what was left out."""
    said = "held" if result.held else "did NOT hold"
    lines = [f"{result.plan} on {result.engine}: the plan {said} (tolerance {result.tolerance_fraction:.0%})", ""]
    lines += [_row(HEAD)]
    for name, one in result.workloads.items():
        lines += _workload(name, one, result.seen)
    lines += [""] if result.groups else []
    lines += [_group(name, group) for name, group in result.groups.items()]
    lines += [f"Note: {note}" for note in result.notes]
    if result.client_lag_p99_ms is not None:
        verdict = ": it could not keep up, the latencies hold its own lateness" if result.client_lagged else ""
        lines.append(f"The client was at most {result.client_lag_p99_ms:.1f} ms late (p99){verdict}.")
    for what, count in result.errors.items():
        lines.append(f"{count} requests failed: {what}.")
    if result.left_out:
        lines.append(f"Not checked: {', '.join(result.left_out)}.")
    if result.ended:
        lines.append(f"Cut short: {result.ended}")
    return "\n".join(line if _is_row(line) else wrapped(line) for line in lines) + "\n"


def _is_row(line: str) -> bool:
    return "  " in line.strip()


def _row(cells: tuple[str, ...]) -> str:
    return " ".join(f"{c:<{-w}}" if w < 0 else f"{c:>{w}}" for c, w in zip(cells, WIDTHS, strict=True)).rstrip()


def _workload(name: str, one: WorkloadCheck, seen: str) -> list[str]:
    lines = [
        _figures(printable(name)[:NAME_WIDTH], "predicted", str(one.requests), one.predicted),
        _figures("", seen, "", one.measured),
        _error(one.error_fraction),
    ]
    if one.remeasured is not None:
        lines += [_figures("", "remeasured", "", one.remeasured.predicted), _error(one.remeasured.error_fraction)]
    return lines + [f"  {printable(name)}: {why}" for why in one.why]


def _error(errors: Mapping[str, float]) -> str:
    latencies = tuple(_percent(errors.get(name)) for name in ("ttft_ms", "tpot_ms", "e2e_ms"))
    return _row(("", "error", "", *latencies, _points(errors), ""))


def _figures(name: str, what: str, requests: str, one: Figures) -> str:
    attained = "–" if one.attainment is None else f"{one.attainment:.1%}"
    latencies = (_pair(one.ttft_ms), _pair(one.tpot_ms), _pair(one.e2e_ms))
    return _row((name, what, requests, *latencies, attained, f"{one.served_rps:.3g}"))


def _pair(value: Percentiles | None) -> str:
    return "–" if value is None else f"{_ms(value.p50)} / {_ms(value.p99)}"


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 100.0 else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _points(errors: Mapping[str, float]) -> str:
    value = errors.get("attainment")
    return "–" if value is None else f"{100 * value:+.1f} pt"


def _group(name: str, one: GroupCheck) -> str:
    parts = [f"up after {one.start_s:.0f} s"]
    if one.kv_tokens_measured is not None:
        parts.append(f"KV {one.kv_tokens_measured:,} tokens of {one.kv_tokens_predicted or 0:,} planned")
        parts.append(f"at most {one.kv_used_peak_fraction:.0%} of it used")
    parts.append(f"{one.preemptions} preemptions")
    if one.worker_step_ms_predicted and one.worker_step_ms_measured:
        ratio = one.worker_step_ms_measured / one.worker_step_ms_predicted
        parts.append(
            f"a busy step takes its worker {one.worker_step_ms_measured:.1f} CPU ms ({ratio - 1:+.0%} of predicted)"
        )
    return f"{printable(name)} ({printable(one.model)}): {', '.join(parts)}"
