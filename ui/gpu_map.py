"""Where everything stands: each GPU of the plan as a rectangle, with the models on it and the group that it is in."""

from collections.abc import Iterator
from typing import Any

import altair as alt
import pandas as pd

from planner import replicas
from planner.plan_file import Group, Plan
from ui.colours import IDLE, colours, ink, letters

IDLE_NAME = "idle"
GAP = 0.06
ROW_PX = 34
AROUND_PX = 120
"""Legend, axis and title."""
BAR_PX = 9
LETTER_PX = 4
"""The bar of a group lies under the middle of a square, its letter above."""


def gpu_rows(plan: Plan) -> pd.DataFrame:
    """One row a replica's share of a GPU, and one an idle GPU that is paid for: where it stands and what it is."""
    rows = pd.DataFrame([*_shares(plan), *_idle(plan)])
    pools = {pool: number for number, pool in enumerate(_pools(plan))}
    rows["order"] = rows["pool"].map(pools)
    return rows.sort_values(["order", "rack", "number", "GPU", "left"]).drop(columns=["order", "number"])


def _shares(plan: Plan) -> Iterator[dict[str, Any]]:
    pools = _pools(plan)
    for group in plan.groups:
        for gpu in group.gpu_ids:
            low = 0.0
            for number, replica in enumerate(group.replicas):
                if gpu not in replicas.gpus_of(group, number):
                    continue
                high = low + replica.sm_fraction
                yield {
                    **_place(pools[group.pool], gpu.node, gpu.index, (low, high)),
                    "model": replica.model,
                    "share of the GPU": replica.sm_fraction,
                    "group": group.id,
                    "layout": f"tp {group.tp} · pp {group.pp} · ep {group.ep} · {replica.quantization}",
                }
                low = high


def _idle(plan: Plan) -> Iterator[dict[str, Any]]:
    """GPUs of nodes that are bought whole, where nothing runs."""
    pools = _pools(plan)
    taken: dict[tuple[str, str], set[int]] = {}
    for group in plan.groups:
        for gpu in group.gpu_ids:
            taken.setdefault((group.pool, gpu.node), set()).add(gpu.index)
    for (pool, node), used in sorted(taken.items()):
        if pools[pool]["buy"] == "node":
            for index in sorted(set(range(pools[pool]["gpus_per_node"])) - used):
                yield {
                    **_place(pools[pool], node, index, (0.0, 1.0)),
                    "model": IDLE_NAME,
                    "share of the GPU": 1.0,
                    "group": "–",
                    "layout": "paid for, runs nothing",
                }


def _pools(plan: Plan) -> dict[str, Any]:
    cluster: Any = plan.spec["cluster"]
    return {pool["name"]: pool for pool in cluster["pools"]}


def _place(pool: Any, node: str, index: int, share: tuple[float, float]) -> dict[str, Any]:
    number = int(node.removeprefix(f"{pool['name']}-"))
    width = 1.0 - 2 * GAP
    return {
        "pool": pool["name"],
        "number": number,
        "rack": number % pool["racks"],
        "node": node,
        "line": f"{node} · rack {number % pool['racks']}",
        "GPU": index,
        "left": index + GAP + width * share[0],
        "right": index + GAP + width * share[1],
    }


def group_rows(plan: Plan) -> pd.DataFrame:
    """One row for each run of neighbouring GPUs of a group that has several: the bar that joins them."""
    return pd.DataFrame(
        [run for group in plan.groups if len(group.gpu_ids) > 1 for run in _runs(group)],
        columns=["node", "group", "first", "last"],
    )


def _runs(group: Group) -> Iterator[dict[str, Any]]:
    nodes: dict[str, list[int]] = {}
    for gpu in group.gpu_ids:
        nodes.setdefault(gpu.node, []).append(gpu.index)
    for node, found in nodes.items():
        indices = sorted(found)
        first = indices[0]
        for index, after in zip(indices, [*indices[1:], None], strict=True):
            if after != index + 1:
                yield {"node": node, "group": group.id, "first": first + 0.5, "last": index + 0.5}
                first = after if after is not None else first


def model_colours(plan: Plan) -> dict[str, str]:
    """Model → colour, the same on every page of this plan's spec."""
    models: Any = plan.spec["models"]
    return colours(model["name"] for model in models)


def gpu_map(plan: Plan, rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The map: a line a node, a square a GPU, split by shares, groups joined by a bar."""
    by_model = {**model_colours(plan), IDLE_NAME: IDLE}
    here = [m for m in by_model if m in set(rows["model"])]
    mark = {**letters(model_colours(plan)), IDLE_NAME: ""}
    named = {m: f"{mark[m]}  {m}".strip() for m in here}
    marked = rows.assign(
        mark=rows["model"].map(mark),
        named=rows["model"].map(named),
        ink=[ink(by_model[m]) for m in rows["model"]],
        middle=(rows["left"] + rows["right"]) / 2,
    )
    nodes = list(dict.fromkeys(rows["line"]))
    line_of = dict(zip(rows["node"], rows["line"], strict=True))
    joined = group_rows(plan)
    joined["line"] = joined["node"].map(line_of)
    widest = int(rows["GPU"].max()) + 1
    y = alt.Y("line:N", sort=nodes, title=None, axis=alt.Axis(labelLimit=200), scale=alt.Scale(paddingInner=0.15))
    x = alt.X(
        "left:Q",
        title="GPU of the node",
        scale=alt.Scale(domain=[0, max(widest, 4)], nice=False),
        axis=alt.Axis(values=[i + 0.5 for i in range(widest)], labelExpr="floor(datum.value)", grid=False),
    )
    squares = (
        alt.Chart(marked)
        .mark_rect(cornerRadius=3)
        .encode(
            x=x,
            x2="right:Q",
            y=y,
            color=alt.Color(
                "named:N",
                scale=alt.Scale(domain=list(named.values()), range=[by_model[m] for m in here]),
                legend=alt.Legend(orient="top", title=None, columns=6),
            ),
            tooltip=["model", "node", "GPU", "rack", "group", "layout", alt.Tooltip("share of the GPU", format=".0%")],
        )
    )
    joins = (
        alt.Chart(joined)
        .mark_rule(strokeWidth=5, color="white", opacity=0.75, strokeCap="round", yOffset=BAR_PX)
        .encode(x="first:Q", x2="last:Q", y=y, tooltip=["group:N"])
    )
    inks = alt.condition("datum.ink === 'black'", alt.value("black"), alt.value("white"))
    marks = alt.Chart(marked).mark_text(fontSize=12, dy=-LETTER_PX).encode(x="middle:Q", y=y, text="mark:N", color=inks)
    return alt.layer(squares, joins, marks).properties(height=ROW_PX * len(nodes) + AROUND_PX)
