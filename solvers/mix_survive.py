"""Rows of the mix model for the loss of a node, a rack or a zone (F3).

Rows of one loss share their recourse flows: after it all its workloads are served at once, by the same copies.
"""

from dataclasses import dataclass

import numpy as np

from solvers.linear_model import add_terms
from solvers.mix_model import Bay, MixModel, Party, Slack, Terms, add_bays, capacity_of, copies_of
from solvers.mix_presolve import Bracket
from solvers.mix_problem import MixProblem, SurviveRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One loss and the numbers of the survive rows that speak of it."""

    rows: tuple[int, ...]
    first: SurviveRow


def losses(problem: MixProblem) -> tuple[Loss, ...]:
    """The distinct losses of a problem's survive rows."""
    found: dict[tuple[object, ...], list[int]] = {}
    for number, row in enumerate(problem.survive):
        domains = tuple(row.pool_domains.tolist()) if row.kind == "domain" else ()
        found.setdefault((row.kind, domains, tuple(sorted(row.lost_pools))), []).append(number)
    return tuple(Loss(rows=tuple(rows), first=problem.survive[rows[0]]) for rows in found.values())


def add_survive_rows(model: MixModel) -> None:
    """Add the rows of every loss to the model."""
    for loss in losses(model.problem):
        _add_loss(model, loss)


def _add_loss(model: MixModel, loss: Loss) -> None:
    flows = {queue: _recourse_flow(model, loss, queue) for queue in _queues(model, loss)}
    problem = model.problem
    for demand in np.flatnonzero(problem.demand_rate_rps > 0).tolist():
        terms = {column: model.part(q, demand) for q, column in flows.items() if problem.share[q, demand] > 0}
        if terms:
            model.linear.row(terms, "<=", 1.0)
    for number in loss.rows:
        _add_fraction(model, number, flows)


def _queues(model: MixModel, loss: Loss) -> list[int]:
    """Queues that still stand after the loss and serve one of its workloads."""
    problem = model.problem
    workloads = [problem.survive[number].workload for number in loss.rows]
    demands = np.isin(problem.demand_workload, workloads)
    serving = (problem.share[:, demands] > 0).any(axis=1) & (model.flow >= 0)
    if loss.first.kind == "zone":
        serving &= ~np.isin(problem.queue_pool, loss.first.lost_pools)
    return [int(queue) for queue in np.flatnonzero(serving)]


def _recourse_flow(model: MixModel, loss: Loss, queue: int) -> int:
    """The flow of a queue after the loss, a column bounded by what is left of the queue."""
    column = model.linear.continuous(1.0)
    bays = model.bays[queue] if loss.first.kind == "zone" else _left_bays(model, loss, queue)
    terms: Terms = {column: 1.0}
    add_terms(terms, capacity_of(bays, float(model.reduced.max_flow_rps[queue])), -1.0)
    model.linear.row(terms, "<=", 0.0)
    return column


def _left_bays(model: MixModel, loss: Loss, queue: int) -> list[Bay]:
    """Brackets of the copies that are left: κ · domains >= copies, copies left <= copies − κ."""
    copies = model.copies_terms(queue)
    if queue not in model.kappa:
        model.kappa[queue] = model.linear.whole(float(max(bay.bracket.high for bay in model.bays[queue])))
    kappa = model.kappa[queue]
    domains = max(1, int(loss.first.pool_domains[model.problem.queue_pool[queue]]))
    freed = _freed_spread(model, loss, queue)
    model.linear.row({**copies, kappa: -float(domains), **freed}, "<=", 0.0)
    brackets: list[Bracket] = [bay.bracket for bay in model.bays[queue]]
    bays = add_bays(model.linear, brackets)
    left = copies_of(bays)
    add_terms(left, copies, -1.0)
    left[kappa] = 1.0
    model.linear.row(left, "<=", 0.0)
    return bays


def _freed_spread(model: MixModel, loss: Loss, queue: int) -> Terms:
    """A column that frees the queue's limit per domain of this loss when the one rule that asks for it is dropped."""
    problem = model.problem
    rows = [problem.survive[number] for number in loss.rows]
    served = {int(w) for w in problem.demand_workload[problem.share[queue] > 0]}
    rules = {row.rule for row in rows if row.workload in served}
    if len(rules) != 1:
        return {}
    column = model.linear.continuous(0.0)
    slacks = model.slacks.setdefault(Party(kind="rule", name=rules.pop()), [])
    slacks.append(Slack(column=column, closed=0.0, upper=np.inf, moves=False))
    return {column: -1.0}


def _add_fraction(model: MixModel, number: int, flows: dict[int, int]) -> None:
    problem, row = model.problem, model.problem.survive[number]
    mine = problem.demand_workload == row.workload
    rate = float(problem.demand_rate_rps[mine].sum())
    if rate <= 0:
        return
    served = problem.share[:, mine].sum(axis=1) * model.reduced.max_flow_rps / rate
    slack = model.linear.continuous(0.0)
    terms: Terms = {column: float(served[queue]) for queue, column in flows.items() if served[queue] > 0}
    terms[slack] = 1.0
    model.linear.row(terms, ">=", row.fraction)
    party = Party(kind="rule", name=row.rule)
    opened = Slack(column=slack, closed=0.0, upper=row.fraction, unit=-1.0, row=len(problem.rules) + number)
    model.slacks.setdefault(party, []).append(opened)
