"""The optimum of a small mix problem by trying every number of copies: the reference of the other solvers.

Copies are enumerated; for each, hardware is the cheapest that fits and flows come from scipy's linear programming
(a development dependency). Written from the header of `mix_problem`, apart from the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow

FloatArray = NDArray[np.float64]
Counts = tuple[int, ...]
TOLERANCE = 1e-9
SERVE_TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best lexicographic values (unmet fractions by level, then USD per hour) and the copies of a mix with them."""

    serve: tuple[float, ...]
    cost_usd_per_hour: float
    copies: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mix:
    copies: Counts
    nodes: Counts
    paid: Counts
    cost: float


def optimum(problem: MixProblem, most_mixes: int = 200_000) -> Optimum | None:
    """The lexicographic optimum of serve and cost, None if the problem is infeasible.

    Raises ValueError when there are more than `most_mixes` numbers of copies to try.
    """
    mixes = sorted(_mixes(problem, most_mixes), key=lambda mix: (mix.cost, mix.copies))
    best: tuple[tuple[float, ...], _Mix] | None = None
    for mix in mixes:
        serve = _serve_values(problem, mix)
        if serve is None:
            continue
        if not problem.allow_unmet:
            return Optimum(serve=(), cost_usd_per_hour=mix.cost, copies=mix.copies)
        if best is None or _less(serve, best[0]):
            best = (serve, mix)
            if max(serve, default=0.0) <= 0.0:
                break
    if best is None:
        return None
    return Optimum(serve=best[0], cost_usd_per_hour=best[1].cost, copies=best[1].copies)


def best_effort_tokens_per_s(
    problem: MixProblem, most_nodes: Sequence[int], most_paid: Sequence[int], serve: tuple[float, ...]
) -> float:
    """The most best-effort tokens/s within so many nodes and paid GPUs, at these serve values."""
    best = -1.0
    for mix in _mixes(problem, 200_000, most_nodes, most_paid):
        program = _FlowProgram(problem, mix)
        if program.hold_serve(serve):
            best = max(best, program.best_effort())
    return best


def _less(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    for a, b in zip(one, other, strict=True):
        if abs(a - b) > SERVE_TOLERANCE:
            return a < b
    return False


def _mixes(
    problem: MixProblem,
    most_mixes: int,
    most_nodes: Sequence[int] | None = None,
    most_paid: Sequence[int] | None = None,
) -> Iterator[_Mix]:
    choices = [_allowed_copies(problem, q) for q in range(len(problem.queue_pool))]
    if np.prod([float(len(c)) for c in choices]) > most_mixes:
        raise ValueError("the problem is too large to try every mix")
    nodes_limit = problem.pool_max_nodes.tolist() if most_nodes is None else list(most_nodes)
    for copies in product(*choices):
        if not all(_survives(problem, copies, row) for row in _losses(problem)):
            continue
        hardware = [_hardware(problem, copies, pool, nodes_limit[pool]) for pool in range(len(nodes_limit))]
        for chosen in product(*hardware):
            nodes, paid = tuple(n for n, _ in chosen), tuple(g for _, g in chosen)
            if most_paid is not None and any(g > most for g, most in zip(paid, most_paid, strict=True)):
                continue
            cost = float(np.dot(problem.pool_price_usd_per_gpu_hour, paid))
            mix = _Mix(copies=copies, nodes=nodes, paid=paid, cost=cost)
            if all(_holds(row, mix) for row in problem.rules if not _has_flow(row)):
                yield mix


def _allowed_copies(problem: MixProblem, queue: int) -> list[int]:
    found = [0]
    for low, high in zip(
        problem.bracket_low[problem.bracket_queue == queue],
        problem.bracket_high[problem.bracket_queue == queue],
        strict=True,
    ):
        found += range(int(low), min(int(high), int(problem.queue_max_copies[queue])) + 1)
    return found


def _hardware(problem: MixProblem, copies: Counts, pool: int, most: int) -> list[tuple[int, int]]:
    """(nodes, paid GPUs) that hold the pool's copies; more than needed only where a rule speaks of the pool."""
    per_node = int(problem.pool_gpus_per_node[pool])
    own = [(int(problem.queue_gpus_per_copy[q]), copies[q]) for q in np.flatnonzero(problem.queue_pool == pool)]
    used = sum(gpus * count for gpus, count in own)
    need = next((n for n in range(most + 1) if _fits(own, n, per_node)), None)
    if need is None:
        return []
    ruled = any(block in (Block.NODES, Block.PAID_GPUS) and p == pool for r in problem.rules for block, p, _ in r.terms)
    pairs = []
    for nodes in range(need, (most if ruled else need) + 1):
        if problem.pool_buys_nodes[pool]:
            pairs.append((nodes, nodes * per_node))
        else:
            pairs += [(nodes, paid) for paid in range(used, (nodes * per_node if ruled else used) + 1)]
    return pairs


def _fits(own: list[tuple[int, int]], nodes: int, per_node: int) -> bool:
    left = nodes - sum(-(-gpus // per_node) * count for gpus, count in own if gpus > per_node)
    small = [(gpus, count) for gpus, count in own if gpus <= per_node]
    if left < 0 or sum(gpus * count for gpus, count in small) > left * per_node:
        return False
    return all(sum(g // size * count for g, count in small) <= left * (per_node // size) for size, _ in small)


def _has_flow(row: RuleRow) -> bool:
    return any(block == Block.FLOW_RPS for block, _, _ in row.terms)


def _fixed_part(row: RuleRow, mix: _Mix) -> float:
    values = {Block.COPIES: mix.copies, Block.NODES: mix.nodes, Block.PAID_GPUS: mix.paid}
    return sum(c * values[block][index] for block, index, c in row.terms if block != Block.FLOW_RPS)


def _holds(row: RuleRow, mix: _Mix) -> bool:
    left = row.bound - _fixed_part(row, mix)
    room = 1e-7 * max(1.0, abs(row.bound))
    return {"<=": left >= -room, ">=": left <= room, "==": abs(left) <= room}[row.sense]


def _capacity_rps(problem: MixProblem, queue: int, copies: int) -> float:
    for b in np.flatnonzero(problem.bracket_queue == queue):
        if problem.bracket_low[b] <= copies <= problem.bracket_high[b]:
            return float(copies * problem.bracket_capacity_rps[b])
    return 0.0


class _FlowProgram:
    """Flows [Q] and unmet [D] at fixed copies; levels are held one after the other."""

    def __init__(self, problem: MixProblem, mix: _Mix) -> None:
        self._problem = problem
        queues, demands = problem.share.shape
        free = problem.workload_best_effort | problem.allow_unmet
        capacity = [_capacity_rps(problem, q, mix.copies[q]) for q in range(queues)]
        unmet = np.where(free[problem.demand_workload], problem.demand_rate_rps, 0.0)
        self._bounds = [(0.0, limit) for limit in [*capacity, *unmet.tolist()]]
        self._equal = [np.concatenate((problem.share[:, d], np.eye(demands)[d])) for d in range(demands)]
        self._equal_to = problem.demand_rate_rps.tolist()
        self._most: list[FloatArray] = []
        self._most_is: list[float] = []
        for row in problem.rules:
            if _has_flow(row):
                self._add_flow_rule(row, mix)

    def _add_flow_rule(self, row: RuleRow, mix: _Mix) -> None:
        line = np.zeros(sum(self._problem.share.shape))
        for block, index, coefficient in row.terms:
            if block == Block.FLOW_RPS:
                line[index] += coefficient
        left = row.bound - _fixed_part(row, mix)
        if row.sense != ">=":
            self._most.append(line)
            self._most_is.append(left)
        if row.sense != "<=":
            self._most.append(-line)
            self._most_is.append(-left)

    def minimum(self, costs: FloatArray) -> float | None:
        """The least value of `costs` over flows and unmet demand; None if there is no flow."""
        from scipy.optimize import linprog  # a development dependency

        found = linprog(
            costs,
            A_ub=np.array(self._most) if self._most else None,
            b_ub=np.array(self._most_is) if self._most else None,
            A_eq=np.array(self._equal),
            b_eq=np.array(self._equal_to),
            bounds=self._bounds,
        )
        return float(found.fun) if found.status == 0 else None

    def hold(self, costs: FloatArray, value: float) -> None:
        """Later minima have at most this value of `costs`."""
        self._most.append(costs)
        self._most_is.append(value)

    def level_costs(self) -> list[FloatArray]:
        """Per priority level: Σ unmet ÷ rate of its workloads as costs."""
        problem = self._problem
        rates = [
            problem.demand_rate_rps[problem.demand_workload == w].sum() for w in range(len(problem.workload_priority))
        ]
        lines = []
        for level in sorted(set(problem.workload_priority[~problem.workload_best_effort].tolist())):
            line = np.zeros(sum(problem.share.shape))
            for d, w in enumerate(problem.demand_workload):
                if problem.workload_priority[w] == level and not problem.workload_best_effort[w] and rates[w] > 0:
                    line[problem.share.shape[0] + d] = 1.0 / rates[w]
            lines.append(line)
        return lines

    def hold_serve(self, serve: tuple[float, ...]) -> bool:
        """Hold these serve values; whether flows with them exist."""
        if serve:
            for line, value in zip(self.level_costs(), serve, strict=True):
                self.hold(line, value + SERVE_TOLERANCE)
        return self.minimum(np.zeros(sum(self._problem.share.shape))) is not None

    def best_effort(self) -> float:
        """Most best-effort tokens/s."""
        problem = self._problem
        line = np.zeros(sum(problem.share.shape))
        total = 0.0
        for d, w in enumerate(problem.demand_workload):
            if problem.workload_best_effort[w]:
                line[problem.share.shape[0] + d] = problem.workload_tokens_per_request[w]
                total += float(problem.workload_tokens_per_request[w] * problem.demand_rate_rps[d])
        least = self.minimum(line)
        if least is None:
            raise RuntimeError("flows that exist were not found again")
        return total - least


def _serve_values(problem: MixProblem, mix: _Mix) -> tuple[float, ...] | None:
    """Unmet fractions level by level at these copies; () where everything must be served; None if there is no flow."""
    if not _may_suffice(problem, mix):
        return None
    program = _FlowProgram(problem, mix)
    if not problem.allow_unmet:
        return () if program.minimum(np.zeros(sum(problem.share.shape))) is not None else None
    values: list[float] = []
    for line in program.level_costs():
        least = program.minimum(line)
        if least is None:
            return None
        values.append(max(0.0, least))
        program.hold(line, least + TOLERANCE)
    return tuple(values)


def _may_suffice(problem: MixProblem, mix: _Mix) -> bool:
    """Cheap necessary condition: every demand that must be served has queues of enough capacity."""
    if problem.allow_unmet:
        return True
    capacity = np.array([_capacity_rps(problem, q, n) for q, n in enumerate(mix.copies)])
    needed = np.where(problem.workload_best_effort[problem.demand_workload], 0.0, problem.demand_rate_rps)
    return bool(np.all(problem.share.T @ capacity >= needed * (1 - 1e-9)))


def _losses(problem: MixProblem) -> list[list[SurviveRow]]:
    groups: dict[str, list[SurviveRow]] = {}
    for row in problem.survive:
        event = f"{row.kind} {row.pool_domains.tolist() if row.kind == 'domain' else sorted(set(row.lost_pools))}"
        groups.setdefault(event, []).append(row)
    return list(groups.values())


def _survives(problem: MixProblem, copies: Counts, rows: list[SurviveRow]) -> bool:
    from scipy.optimize import linprog  # a development dependency

    left = [_left_rps(problem, copies, q, rows[0]) for q in range(len(copies))]
    lines, most = [], []
    for d, rate in enumerate(problem.demand_rate_rps):
        lines.append(problem.share[:, d])
        most.append(float(rate))
    for row in rows:
        mine = problem.demand_workload == row.workload
        lines.append(-problem.share[:, mine].sum(axis=1))
        most.append(-row.fraction * float(problem.demand_rate_rps[mine].sum()))
    found = linprog(np.zeros(len(copies)), A_ub=np.array(lines), b_ub=np.array(most), bounds=[(0, c) for c in left])
    return bool(found.status == 0)


def _left_rps(problem: MixProblem, copies: Counts, queue: int, row: SurviveRow) -> float:
    if row.kind == "zone":
        return 0.0 if problem.queue_pool[queue] in row.lost_pools else _capacity_rps(problem, queue, copies[queue])
    domains = max(1, int(row.pool_domains[problem.queue_pool[queue]]))
    left = copies[queue] - -(-copies[queue] // domains)
    return max((_capacity_rps(problem, queue, n) for n in range(left + 1)), default=0.0)
