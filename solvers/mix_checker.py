"""Is a mix a solution of its problem? Reads the header of `mix_problem`, and shares no code with the solvers."""

import numpy as np
from numpy.typing import NDArray

from solvers.mix_problem import Block, MixProblem, MixSolution, SurviveRow

FloatArray = NDArray[np.float64]
TOLERANCE = 2e-6  # relative; a solver's own is 1e-7 a row


def check(problem: MixProblem, solution: MixSolution) -> list[str]:
    """The rules that the mix breaks, one sentence each; empty when it is a solution."""
    shapes = _shape_violations(problem, solution)
    if shapes:
        return shapes
    found = _hardware_violations(problem, solution)
    found += _queue_violations(problem, solution)
    found += _demand_violations(problem, solution)
    found += _rule_violations(problem, solution)
    found += _survive_violations(problem, solution)
    return found + _value_violations(problem, solution)


def _shape_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    queues, demands = problem.share.shape
    pools = len(problem.pool_max_nodes)
    sizes = {
        "copies": queues,
        "nodes": pools,
        "paid_gpus": pools,
        "flow_rps": queues,
        "unmet_rps": demands,
        "copies_per_domain_max": queues,
    }
    found = []
    for field, size in sizes.items():
        values = getattr(solution, field)
        if values.shape != (size,):
            found.append(f"{field} has shape {values.shape}, not {(size,)}")
        elif not np.all(np.isfinite(values)) or np.any(values < 0):
            found.append(f"{field} has a value that is negative or not finite")
        elif not field.endswith("rps") and not np.issubdtype(values.dtype, np.integer):
            found.append(f"{field} is not whole")
    return found


def _hardware_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    found = []
    for pool, nodes in enumerate(solution.nodes.tolist()):
        per_node, paid = int(problem.pool_gpus_per_node[pool]), int(solution.paid_gpus[pool])
        own = [q for q in range(len(solution.copies)) if problem.queue_pool[q] == pool and solution.copies[q] > 0]
        used = sum(int(problem.queue_gpus_per_copy[q] * solution.copies[q]) for q in own)
        if nodes > problem.pool_max_nodes[pool]:
            found.append(f"pool {pool} has {nodes} nodes of {problem.pool_max_nodes[pool]}")
        if used > paid:
            found.append(f"pool {pool}: copies take {used} GPUs, {paid} are paid for")
        if paid > per_node * nodes:
            found.append(f"pool {pool}: {paid} GPUs are paid for on {nodes} nodes of {per_node}")
        if problem.pool_buys_nodes[pool] and paid != per_node * nodes:
            found.append(f"pool {pool} buys whole nodes: {per_node * nodes} GPUs, not {paid}")
        found += _fit_violations(problem, solution, pool, own)
    return found


def _fit_violations(problem: MixProblem, solution: MixSolution, pool: int, own: list[int]) -> list[str]:
    """F4: places of every size; a copy larger than a node keeps its nodes to itself."""
    per_node, left = int(problem.pool_gpus_per_node[pool]), int(solution.nodes[pool])
    small: list[int] = []
    for queue in own:
        gpus = int(problem.queue_gpus_per_copy[queue])
        if gpus > per_node:
            left -= int(np.ceil(gpus / per_node)) * int(solution.copies[queue])
        else:
            small.append(queue)
    if left < 0:
        return [f"pool {pool}: copies larger than a node need {-left} nodes more"]
    found = []
    for size in {int(problem.queue_gpus_per_copy[q]) for q in small}:
        taken = sum(int(problem.queue_gpus_per_copy[q]) // size * int(solution.copies[q]) for q in small)
        if taken > left * (per_node // size):
            found.append(f"pool {pool}: {taken} places of {size} GPUs on {left} nodes of {per_node}")
    return found


def _queue_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    found = []
    for queue, copies in enumerate(solution.copies.tolist()):
        flow = float(solution.flow_rps[queue])
        if copies > problem.queue_max_copies[queue]:
            found.append(f"queue {queue} has {copies} copies of at most {problem.queue_max_copies[queue]}")
        capacity = _capacity_rps(problem, queue, copies)
        if capacity is None:
            found.append(f"queue {queue}: no bracket holds {copies} copies")
        elif flow > capacity * (1 + TOLERANCE):
            found.append(f"queue {queue}: {flow:g} requests/s through a capacity of {capacity:g}")
    return found


def _capacity_rps(problem: MixProblem, queue: int, copies: int) -> float | None:
    """Of exactly so many copies together; None where no bracket holds that number."""
    if copies == 0:
        return 0.0
    for bracket in np.flatnonzero(problem.bracket_queue == queue):
        if problem.bracket_low[bracket] <= copies <= problem.bracket_high[bracket]:
            return float(problem.bracket_capacity_rps[bracket]) * copies
    return None


def _demand_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    found = []
    for demand, rate in enumerate(problem.demand_rate_rps.tolist()):
        workload = int(problem.demand_workload[demand])
        unmet = float(solution.unmet_rps[demand])
        served = float(np.sum(problem.share[:, demand] * solution.flow_rps))
        if abs(served + unmet - rate) > TOLERANCE * rate:
            found.append(f"demand {demand}: {served:g} served and {unmet:g} unmet of {rate:g} requests/s")
        if unmet > TOLERANCE * rate and not problem.allow_unmet and not problem.workload_best_effort[workload]:
            found.append(f"demand {demand}: {unmet:g} requests/s are unmet")
    return found


def _rule_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    values = {
        Block.COPIES: solution.copies,
        Block.NODES: solution.nodes,
        Block.PAID_GPUS: solution.paid_gpus,
        Block.FLOW_RPS: solution.flow_rps,
    }
    found = []
    for row in problem.rules:
        parts = [coefficient * float(values[block][index]) for block, index, coefficient in row.terms]
        total, room = sum(parts), TOLERANCE * (abs(row.bound) + sum(abs(part) for part in parts))
        too_much = row.sense in ("<=", "==") and total > row.bound + room
        too_little = row.sense in (">=", "==") and total < row.bound - room
        if too_much or too_little:
            found.append(f"rule {row.rule}: {total:g} is not {row.sense} {row.bound:g}")
    return found


def _survive_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    found = []
    pending = list(problem.survive)
    while pending:
        first = pending[0]
        same = [row for row in pending if _same_loss(row, first)]
        pending = [row for row in pending if not _same_loss(row, first)]
        found += _domain_limit_violations(problem, solution, same)
        if not _survives(problem, solution, same):
            names = ", ".join(sorted({row.rule for row in same}))
            found.append(f"rule {names}: too little is left after the loss of a {first.kind}")
    return found


def _same_loss(one: SurviveRow, other: SurviveRow) -> bool:
    if one.kind != other.kind:
        return False
    if one.kind == "zone":
        return set(one.lost_pools) == set(other.lost_pools)
    return bool(np.array_equal(one.pool_domains, other.pool_domains))


def _serving(problem: MixProblem, rows: list[SurviveRow]) -> list[int]:
    mine = np.isin(problem.demand_workload, [row.workload for row in rows])
    return [int(q) for q in np.flatnonzero((problem.share[:, mine] > 0).any(axis=1))]


def _domain_limit_violations(problem: MixProblem, solution: MixSolution, rows: list[SurviveRow]) -> list[str]:
    if rows[0].kind != "domain":
        return []
    found = []
    for queue in _serving(problem, rows):
        domains = max(1, int(rows[0].pool_domains[problem.queue_pool[queue]]))
        if solution.copies[queue] > domains * solution.copies_per_domain_max[queue]:
            found.append(
                f"queue {queue}: {solution.copies[queue]} copies in {domains} domains "
                f"of at most {solution.copies_per_domain_max[queue]}"
            )
    return found


def _survives(problem: MixProblem, solution: MixSolution, rows: list[SurviveRow]) -> bool:
    """Are there flows through what is left that serve every row's fraction at once, no class beyond its rate?"""
    # OR-tools' GLOP: another linear solver than the one that found the mix; imported where it is needed.
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    flows = {q: solver.NumVar(0.0, _left_rps(problem, solution, q, rows[0]), "") for q in _serving(problem, rows)}
    for demand in np.flatnonzero(problem.demand_rate_rps > 0).tolist():
        rate = float(problem.demand_rate_rps[demand])
        solver.Add(sum(flows[q] * float(problem.share[q, demand] / rate) for q in flows) <= 1.0)
    short = solver.NumVar(0.0, 1.0, "")
    for row in rows:
        mine = problem.demand_workload == row.workload
        rate = float(problem.demand_rate_rps[mine].sum())
        if rate > 0:
            part = problem.share[:, mine].sum(axis=1) / rate
            solver.Add(sum(flows[q] * float(part[q]) for q in flows) + short >= row.fraction)
    solver.Minimize(short)
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        raise RuntimeError("the checker's linear program was not solved")
    return bool(short.solution_value() <= TOLERANCE)


def _left_rps(problem: MixProblem, solution: MixSolution, queue: int, row: SurviveRow) -> float:
    copies = int(solution.copies[queue])
    if row.kind == "zone":
        lost = int(problem.queue_pool[queue]) in row.lost_pools
        return 0.0 if lost else _capacity_rps(problem, queue, copies) or 0.0
    left = copies - int(solution.copies_per_domain_max[queue])
    # A copy that is left may stand idle, which matters where a larger number has no bracket or less capacity.
    return max((_capacity_rps(problem, queue, n) or 0.0 for n in range(1, left + 1)), default=0.0)


def _value_violations(problem: MixProblem, solution: MixSolution) -> list[str]:
    cost = float(np.sum(problem.pool_price_usd_per_gpu_hour * solution.paid_gpus))
    found = []
    if abs(cost - solution.cost_usd_per_hour) > TOLERANCE * max(cost, 1.0):
        found.append(f"cost {solution.cost_usd_per_hour:g} is not {cost:g} USD per hour")
    for name, value in solution.stage_values:
        expected = _stage_value(problem, solution, name)
        if expected is None:
            found.append(f"stage {name} is unknown")
        elif abs(value - expected) > 10 * TOLERANCE * max(abs(expected), 1.0):
            found.append(f"stage {name} is {value:g}, not {expected:g}")
    return found


def _stage_value(problem: MixProblem, solution: MixSolution, name: str) -> float | None:
    if name == "cost":
        return float(np.sum(problem.pool_price_usd_per_gpu_hour * solution.paid_gpus))
    if name == "gpus_used":
        return float(np.sum(problem.queue_gpus_per_copy * solution.copies))
    workload = problem.demand_workload
    if name == "best_effort":
        served = np.where(problem.workload_best_effort[workload], problem.demand_rate_rps - solution.unmet_rps, 0.0)
        return float(np.sum(served * problem.workload_tokens_per_request[workload]))
    if not name.startswith("serve_"):
        return None
    total = 0.0
    for w in np.flatnonzero((problem.workload_priority == int(name[6:])) & ~problem.workload_best_effort):
        rate = float(problem.demand_rate_rps[workload == w].sum())
        total += float(solution.unmet_rps[workload == w].sum()) / rate if rate > 0 else 0.0
    return total
