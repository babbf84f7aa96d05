"""A plan as text that reads well in 100 columns."""

import textwrap
from collections.abc import Iterable, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from planner.plan_file import Group, Percentiles, Plan, Relaxation, WorkloadResult
from planner.replicas import members
from profiles.evidence import Evidence

WIDTH = 100
MOST_LINES = 12
MARKS = {
    Evidence.MEASURED: "measured",
    Evidence.INTERPOLATED: "interpolated",
    Evidence.FITTED: "fitted",
    Evidence.SCALED: "scaled",
    Evidence.MODELLED: "modelled",
}
LEGEND = {
    Evidence.MEASURED: "measured on that device, or given by you",
    Evidence.INTERPOLATED: "inside a grid measured on that device",
    Evidence.FITTED: "an engine term fitted on measured runs",
    Evidence.SCALED: "roofline × an efficiency curve fitted on that device",
    Evidence.MODELLED: "roofline × the curve of a sister device",
}
SAID = {
    "optimal": "",
    "feasible": "The solver stopped at its node limit or gap: a cheaper mix may exist within the gap stated.",
    "time_limit": "The wall limit ended the search: the plan is the best so far, and not reproducible.",
    "cancelled": "Cancelled: the plan is the best so far.",
    "infeasible": "",
}


def render_plan(plan: Plan) -> str:
    """The plan, or why there is none, as lines of at most 100 columns, without colours."""
    parts = _no_plan(plan) if not plan.groups else _plan(plan)
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _plan(plan: Plan) -> list[str]:
    return [
        _headline(plan),
        _section("Buy", _buy(plan)),
        _section("Run", _run(plan)),
        _section("Expect", _expect(plan)),
        _lines("Unmet", [f"{name}: {rate:g} requests/s" for name, rate in plan.unmet.items()]),
        _lines("Split by length", _splits(plan)),
        _lines("Slack", [f"{s.queue} ({s.copies} copies): {s.reason}" for s in plan.slack]),
        _lines("Assumed", plan.assumptions),
    ]


def _headline(plan: Plan) -> str:
    used = sum(count.used for count in plan.gpu_counts.values())
    bought = sum(count.bought for count in plan.gpu_counts.values())
    cost = plan.cost_usd_per_hour or 0.0
    idle = f", {bought - used} of them idle" if bought > used else ""
    lines = [f"{plan.name}: {cost:,.2f} USD/h for {bought} GPUs{idle}"]
    if plan.sunk_usd_per_hour:
        lines.append(f"  beside {plan.sunk_usd_per_hour:,.2f} USD/h for reserved GPUs, paid either way")
    if plan.bound_fluid is not None:
        lines.append(
            f"  no plan can cost less than {plan.bound_fluid:,.2f} USD/h whatever the dispatching"
            f" ({_gap(plan.gap_fluid_fraction)})"
        )
    if plan.gap_model_fraction is not None:
        lines.append(f"  under the capacities in force this is within {plan.gap_model_fraction:.1%} of the best")
    if plan.verified is not None:
        held = "every workload holds its SLO" if plan.verified.held else "NOT every workload holds its SLO"
        lines.append(f"  simulated on {plan.verified.draws} draws: {held} ({plan.verified.rule})")
    if SAID[plan.termination]:
        lines.append("  " + SAID[plan.termination])
    return "\n".join(wrapped(line) for line in lines) + "\n"


def _gap(fraction: float | None) -> str:
    if fraction is None:
        return "gap unknown"
    return "the plan is as cheap as that" if fraction < 5e-4 else f"the plan is {fraction:.1%} above it"


def _section(title: str, table: Table) -> str:
    out = StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False)
    console.print(table)
    lines = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
    return "\n".join([title, *lines]) + "\n"


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="", show_edge=False, padding=(0, 2, 0, 0))
    # What is too wide folds, so that no name and no figure is cut.
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def printable(text: str) -> str:
    """The text on one line, with '?' for control characters: names come from files that nobody vouches for."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def _buy(plan: Plan) -> Table:
    table = _table(("pool",), ("GPUs", "used", "nodes", "USD/GPU-h", "USD/h", "billing"))
    for name, count in plan.gpu_counts.items():
        if count.bought or count.used:
            _row(
                table,
                name,
                str(count.bought),
                str(count.used),
                str(count.nodes),
                f"{count.price_usd_per_gpu_hour:,.2f}",
                f"{count.bought * count.price_usd_per_gpu_hour:,.2f}",
                count.billing,
            )
    return table


def _run(plan: Plan) -> Table:
    table = _table(("model", "on"), ("copies", "GPUs", "tp·pp·ep", "weights", "max seqs", "tokens/step", "KV tokens"))
    for groups in _by_queue(member for group in plan.groups for member in members(group)):
        first = groups[0]
        replica = first.replicas[0]
        engine = replica.engine
        _row(
            table,
            replica.model if replica.role == "both" else f"{replica.model} ({replica.role})",
            first.pool,
            str(len(groups)),
            f"{sum(len(group.gpu_ids) * group.replicas[0].sm_fraction for group in groups):.6g}",
            f"{first.tp}·{first.pp}·{first.ep}",
            replica.quantization,
            str(engine.max_num_seqs) if engine else f"batch {replica.batch}" if replica.batch else "–",
            f"{engine.max_num_batched_tokens:,}" if engine else "–",
            f"{replica.kv_tokens:,}" if replica.kv_tokens else "–",
        )
    return table


def _by_queue(groups: Iterable[Group]) -> list[list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.queue, []).append(group)
    return list(found.values())


def _expect(plan: Plan) -> Table:
    table = _table(
        ("workload",), ("req/s", "attained", "asked", "TTFT p50/p99", "TPOT p50/p99", "e2e p99 ms", "evidence")
    )
    for name, result in plan.workloads.items():
        _row(
            table,
            name,
            f"{result.served_rps:,.4g}",
            _attained(result),
            "best effort" if result.best_effort else f"{result.attainment_target or 0.0:.2%}",
            _pair(result.ttft_ms, result.slo.get("ttft_ms"), 0),
            _pair(result.tpot_ms, result.slo.get("tpot_ms"), 1),
            _e2e(result),
            MARKS[result.evidence.headline] if result.evidence.shares else "–",
        )
    table.caption = _legend(plan)
    table.caption_justify = "left"
    table.caption_style = ""
    return table


def _attained(result: WorkloadResult) -> str:
    return "–" if result.attainment is None else f"{result.attainment:.2%}"


def _pair(values: Percentiles | None, limit: float | None, digits: int) -> str:
    if values is None:
        return "–"
    asked = "" if limit is None else f" <{limit:,.0f}"
    return f"{values.p50:,.{digits}f}/{values.p99:,.{digits}f}{asked}"


def _e2e(result: WorkloadResult) -> str:
    if result.e2e_ms is None:
        return "–"
    limit = result.slo.get("e2e_ms")
    return f"{result.e2e_ms.p99:,.0f}" + ("" if limit is None else f" <{limit:,.0f}")


def _legend(plan: Plan) -> str:
    shown = {result.evidence.headline for result in plan.workloads.values() if result.evidence.shares}
    said = "; ".join(f"{MARKS[e]}: {LEGEND[e]}" for e in Evidence if e in shown)
    return f"Latencies in ms, '<' the limit asked for. {said}."


def _splits(plan: Plan) -> list[str]:
    found = []
    for workload, routes in plan.routes.items():
        limits = sorted({r.input_tokens_max for r in routes if r.input_tokens_max is not None})
        for limit in limits:
            share = sum(r.weight_fraction for r in routes if r.input_tokens_max == limit)
            found.append(
                f"{workload}: {share:.1%} of the requests, prompts up to {limit:,} tokens, go to replicas of their own"
            )
    return found


def _lines(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown = [wrapped(f"  {line}") for line in lines[:MOST_LINES]]
    if len(lines) > MOST_LINES:
        shown.append(f"  and {len(lines) - MOST_LINES} more (see --json)")
    return "\n".join([title, *shown]) + "\n"


def wrapped(line: str) -> str:
    """At most 100 columns; what follows the first line is indented further."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    text = printable(line)
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


def _no_plan(plan: Plan) -> list[str]:
    ended = {
        "time_limit": "no plan was found before the wall limit",
        "cancelled": "cancelled before a plan was found",
    }.get(plan.termination, "there is no plan")
    return [
        wrapped(f"{plan.name}: {ended}") + "\n",
        _lines("These cannot hold together" if plan.termination == "infeasible" else "Why", plan.conflicts),
        _lines("What would help", [_relaxation(r) for r in plan.relaxations]),
        _lines(
            "Short, when more important workloads are served first",
            [f"{name}: {rate:g} requests/s unmet" for name, rate in plan.unmet.items()],
        ),
        _lines("Assumed", plan.assumptions),
    ]


def _relaxation(one: Relaxation) -> str:
    known = "tried: gives a plan" if one.sufficient else "at least; not tried"
    change = "" if one.now is None else f" ({one.field}: {one.now} → {one.needed}; {known})"
    return one.what + change
