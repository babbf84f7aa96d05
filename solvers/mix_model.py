"""The mix problem as a linear model: columns and rows built once from the arrays, for all stages.

Flows are fractions of the most that a queue's demands let through it, unmet demand is a fraction of its rate, so
that every row is of the order of one and the solver's absolute tolerances mean the same for every workload.

Rules, supplies and demands can each be opened (their columns of slack are fixed at 0 otherwise), which is how a
conflict is explained on the same model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from solvers.linear_model import LinearModel, add_terms
from solvers.mix_presolve import Bracket, Reduced, eases, reduce
from solvers.mix_problem import Block, MixProblem

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Terms = dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Party:
    """Something that can be part of a conflict: a rule by its name, the supply of a pool, the demand of a workload."""

    kind: Literal["demand", "rule", "supply"]
    name: str = ""
    index: int = -1

    def __str__(self) -> str:
        if self.kind == "rule":
            return self.name
        return f"{self.kind} of {'pool' if self.kind == 'supply' else 'workload'} {self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack:
    """A column that, opened up to `upper`, frees one row or bound of a party.

    One unit of the column is `unit` of the row's own unit; `row` counts rule rows and then survive rows (−1: none).
    `moves`: the column moves the party's number; otherwise it only frees a row when the party is dropped.
    """

    column: int
    closed: float
    upper: float
    unit: float = 1.0
    row: int = -1
    moves: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bay:
    """The columns of one bracket: `choose` is 0 or 1, `count` its copies (−1: exactly `bracket.low` when chosen)."""

    bracket: Bracket
    choose: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRow:
    """A row in which copies only take: `Σ taken[queue] · copies + … <= …`, hardware or a rule.

    `row` is its number in the linear model; `sign` is −1 where the model has it the other way round.
    """

    row: int
    taken: dict[int, float]
    sign: float = 1.0


@dataclass(slots=True, kw_only=True)
class MixModel:
    """The linear model and where its columns stand; −1 where a column does not exist."""

    problem: MixProblem
    reduced: Reduced
    linear: LinearModel
    flow: IntArray  # [Q]
    bays: list[list[Bay]]  # [Q]; empty for queues of staffed demands
    staffed: dict[int, Terms]  # queue of a staffed demand → its copies as an expression
    staff_columns: list[int]  # one for each staffing
    nodes: IntArray  # [P]
    paid: IntArray  # [P], only of pools that buy single GPUs
    unmet: IntArray  # [D], only of demands with a rate
    copy_rows: list[CopyRow] = field(default_factory=list)
    kappa: dict[int, int] = field(default_factory=dict)  # queue → column
    slacks: dict[Party, list[Slack]] = field(default_factory=dict)

    def copies_terms(self, queue: int) -> Terms:
        """The copies of a queue as an expression."""
        return self.staffed[queue] if queue in self.staffed else copies_of(self.bays[queue])

    def paid_terms(self, pool: int) -> Terms:
        """The GPUs of a pool that are paid for, as an expression."""
        if self.paid[pool] >= 0:
            return {int(self.paid[pool]): 1.0}
        return {int(self.nodes[pool]): float(self.problem.pool_gpus_per_node[pool])}

    def capacity_terms(self, queue: int, bays: list[Bay]) -> Terms:
        """The capacity of the copies in `bays` as a fraction of the queue's largest flow."""
        return capacity_of(bays, float(self.reduced.max_flow_rps[queue]))

    def part(self, queue: int, demand: int) -> float:
        """The fraction of a demand that the queue serves at its largest flow."""
        flow = self.reduced.max_flow_rps[queue] * self.problem.share[queue, demand]
        return float(min(1.0, flow / self.problem.demand_rate_rps[demand]))


def build(problem: MixProblem, staffings: Mapping[int, Sequence[Mapping[int, int]]] | None = None) -> MixModel:
    """The model with all rows of the problem; survive rows come from `mix_survive`.

    `staffings`: demand → the numbers of copies (queue → copies) among which one is chosen, in place of brackets and
    flows. Only for demands that meet the rest of the problem in hardware alone (`mix_staffing`).
    """
    staffings = staffings or {}
    reduced = reduce(problem)
    linear = LinearModel()
    queues, demands = problem.share.shape
    columns, staffed = _add_staffings(linear, staffings)
    replaced = np.zeros(queues, dtype=bool)
    replaced[[q for d in staffings for q in np.flatnonzero(problem.share[:, d] > 0)]] = True
    model = MixModel(
        problem=problem,
        reduced=reduced,
        linear=linear,
        flow=np.full(queues, -1, dtype=np.int64),
        bays=[[] if replaced[q] else add_bays(linear, list(reduced.brackets[q])) for q in range(queues)],
        staffed=staffed,
        staff_columns=columns,
        nodes=np.array([linear.whole(float(most)) for most in problem.pool_max_nodes], dtype=np.int64),
        paid=np.array([-1 if by_node else linear.whole(np.inf) for by_node in problem.pool_buys_nodes], dtype=np.int64),
        unmet=np.full(demands, -1, dtype=np.int64),
    )
    _add_flows(model)
    _add_demands(model, [d for d in np.flatnonzero(problem.demand_rate_rps > 0).tolist() if d not in staffings])
    for pool in range(len(problem.pool_max_nodes)):
        _add_pool(model, pool)
    _add_rules(model)
    return model


def _add_staffings(
    linear: LinearModel, staffings: Mapping[int, Sequence[Mapping[int, int]]]
) -> tuple[list[int], dict[int, Terms]]:
    columns: list[int] = []
    staffed: dict[int, Terms] = {}
    for demand in sorted(staffings):
        choices = [linear.whole(1.0) for _ in staffings[demand]]
        linear.row(dict.fromkeys(choices, 1.0), "==", 1.0)
        columns += choices
        for column, staffing in zip(choices, staffings[demand], strict=True):
            for queue, copies in staffing.items():
                staffed.setdefault(queue, {})[column] = float(copies)
    return columns, staffed


def copies_of(bays: list[Bay]) -> Terms:
    """The copies in these brackets as an expression."""
    return {(b.count if b.count >= 0 else b.choose): (1.0 if b.count >= 0 else float(b.bracket.low)) for b in bays}


def capacity_of(bays: list[Bay], flow_rps: float) -> Terms:
    """Capacity as a fraction of `flow_rps`, which is all that can be used: no copy counts for more than it can add."""
    terms: Terms = {}
    for bay in bays:
        per_copy = min(bay.bracket.capacity_rps / flow_rps, 1.0 / bay.bracket.low)
        if bay.count >= 0:
            terms[bay.count] = per_copy
        else:
            terms[bay.choose] = per_copy * bay.bracket.low
    return terms


def add_bays(linear: LinearModel, brackets: list[Bracket]) -> list[Bay]:
    """Columns and rows of `lo z <= n <= hi z, Σ z <= 1`."""
    bays = []
    for bracket in brackets:
        choose = linear.whole(1.0)
        count = linear.whole(float(bracket.high)) if bracket.high > bracket.low else -1
        if count >= 0:
            linear.row({count: 1.0, choose: -float(bracket.high)}, "<=", 0.0)
            linear.row({count: 1.0, choose: -float(bracket.low)}, ">=", 0.0)
        bays.append(Bay(bracket=bracket, choose=choose, count=count))
    if len(bays) > 1:
        linear.row({bay.choose: 1.0 for bay in bays}, "<=", 1.0)
    return bays


def _add_flows(model: MixModel) -> None:
    for queue, bays in enumerate(model.bays):
        if not bays or model.reduced.max_flow_rps[queue] <= 0:
            continue
        column = model.linear.continuous(1.0)
        model.flow[queue] = column
        capacity = model.capacity_terms(queue, bays)
        model.linear.row({column: 1.0, **{c: -value for c, value in capacity.items()}}, "<=", 0.0)


def _add_demands(model: MixModel, demands: list[int]) -> None:
    problem = model.problem
    for demand in demands:
        workload = int(problem.demand_workload[demand])
        free = problem.allow_unmet or bool(problem.workload_best_effort[workload])
        column = model.linear.continuous(1.0 if free else 0.0)
        model.unmet[demand] = column
        terms: Terms = {column: 1.0}
        for queue in np.flatnonzero((problem.share[:, demand] > 0) & (model.flow >= 0)).tolist():
            terms[int(model.flow[queue])] = model.part(queue, demand)
        model.linear.row(terms, "==", 1.0)
        if not free:
            party = Party(kind="demand", index=workload)
            model.slacks.setdefault(party, []).append(Slack(column=column, closed=0.0, upper=1.0))


def _add_pool(model: MixModel, pool: int) -> None:
    problem, linear = model.problem, model.linear
    nodes, per_node = int(model.nodes[pool]), int(problem.pool_gpus_per_node[pool])
    most = float(problem.pool_max_nodes[pool])
    model.slacks[Party(kind="supply", index=pool)] = [Slack(column=nodes, closed=most, upper=np.inf)]
    queues = [q for q in np.flatnonzero(problem.queue_pool == pool).tolist() if model.copies_terms(q)]
    gpus = {q: int(problem.queue_gpus_per_copy[q]) for q in queues}
    _add_copy_row(model, {q: float(own) for q, own in gpus.items()}, model.paid_terms(pool))
    if model.paid[pool] >= 0:
        linear.row({int(model.paid[pool]): 1.0, nodes: -float(per_node)}, "<=", 0.0)
    for size in sorted({min(own, per_node) for own in gpus.values()}):
        taken = {q: float(_slots(own, size, per_node)) for q, own in gpus.items()}
        _add_copy_row(model, taken, {nodes: float(per_node // size)})


def _add_copy_row(model: MixModel, taken: dict[int, float], there: Terms) -> None:
    terms: Terms = {}
    for queue, amount in taken.items():
        add_terms(terms, model.copies_terms(queue), amount)
    add_terms(terms, there, -1.0)
    model.copy_rows.append(CopyRow(row=model.linear.row(terms, "<=", 0.0), taken=taken))


def _slots(gpus: int, size: int, per_node: int) -> int:
    """Places of `size` GPUs that one copy takes up (F4); a copy larger than a node takes every place of its nodes."""
    if gpus > per_node:
        return -(-gpus // per_node) * (per_node // size)
    return gpus // size


def _add_rules(model: MixModel) -> None:
    for number, row in enumerate(model.problem.rules):
        terms: Terms = {}
        for block, index, coefficient in row.terms:
            add_terms(terms, _block_terms(model, block, index), coefficient)
        scale = max((abs(value) for value in terms.values()), default=0.0) or 1.0
        scaled = {column: value / scale for column, value in terms.items()}
        slacks = model.slacks.setdefault(Party(kind="rule", name=row.rule), [])
        for sign in {"<=": (-1.0,), ">=": (1.0,), "==": (-1.0, 1.0)}[row.sense]:
            column = model.linear.continuous(0.0)
            scaled[column] = sign
            slacks.append(Slack(column=column, closed=0.0, upper=np.inf, unit=-sign * scale, row=number))
        line = model.linear.row(scaled, row.sense, row.bound / scale)
        if eases(row) and any(block == Block.COPIES for block, _, _ in row.terms):
            sign = 1.0 if row.sense == "<=" else -1.0
            taken: dict[int, float] = {}
            for block, index, coefficient in row.terms:
                if block == Block.COPIES:
                    taken[index] = taken.get(index, 0.0) + sign * coefficient / scale
            model.copy_rows.append(CopyRow(row=line, taken=taken, sign=sign))


def _block_terms(model: MixModel, block: Block, index: int) -> Terms:
    if block == Block.COPIES:
        return model.copies_terms(index)
    if block == Block.NODES:
        return {int(model.nodes[index]): 1.0}
    if block == Block.PAID_GPUS:
        return model.paid_terms(index)
    column = int(model.flow[index])
    return {column: float(model.reduced.max_flow_rps[index])} if column >= 0 else {}
