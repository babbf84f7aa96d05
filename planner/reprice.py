"""The same demands on other numbers of copies: hardware, cost and balanced flows counted anew, rules checked."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.mix_build import Brackets, Market, mix_problem, unlimited_brackets
from solvers.mix_balance import balance
from solvers.mix_checker import check
from solvers.mix_problem import MixProblem, MixSolution, RuleRow

IntArray = NDArray[np.int64]


def with_copies(
    market: Market,
    brackets: Brackets,
    cuts: tuple[RuleRow, ...],
    solution: MixSolution,
    copies: IntArray,
) -> MixSolution | None:
    """The mix with these copies and its load balanced over them; None when a rule, the supply or a demand forbids it.

    Whether so many copies are enough is not asked here: simulation says it.
    """
    if _weakens_survival(market, solution, copies):
        return None
    problem = mix_problem(market, brackets, cuts)
    nodes = np.maximum(needed_nodes(problem, copies), _ruled_nodes(problem, solution, copies))
    gpus = np.bincount(problem.queue_pool, problem.queue_gpus_per_copy * copies, minlength=nodes.size).astype(np.int64)
    paid = np.where(problem.pool_buys_nodes, nodes * problem.pool_gpus_per_node, gpus)
    flow, trouble = balance(problem, copies, nodes, paid, solution.unmet_rps)
    if trouble:
        return None
    changed = replace(
        solution,
        copies=copies,
        nodes=nodes,
        paid_gpus=paid,
        flow_rps=flow,
        cost_usd_per_hour=float(problem.pool_price_usd_per_gpu_hour @ paid),
        stage_values=_restated(problem, solution, copies, paid),
    )
    return None if check(mix_problem(market, unlimited_brackets, cuts), changed) else changed


def _weakens_survival(market: Market, solution: MixSolution, copies: IntArray) -> bool:
    """Whether a queue of a workload that must survive a loss gets fewer copies: no simulation here speaks of that."""
    protected = {row.workload for row in market.survive}
    return any(
        copies[queue.index] < solution.copies[queue.index]
        and protected & {market.demands[d].workload for d, _ in queue.parts}
        for queue in market.queues
    )


def needed_nodes(problem: MixProblem, copies: IntArray) -> IntArray:
    """Fewest nodes of each pool that the fit rows (F4) allow, shape (pools,)."""
    nodes = np.zeros(problem.pool_max_nodes.size, dtype=np.int64)
    for pool in range(nodes.size):
        per_node = int(problem.pool_gpus_per_node[pool])
        mine = (problem.queue_pool == pool) & (copies > 0)
        sizes, counts = problem.queue_gpus_per_copy[mine], copies[mine]
        whole = -(-sizes // per_node)
        for size in np.unique(sizes[sizes <= per_node]):
            fitting = int(np.sum((np.where(sizes <= per_node, sizes, 0) // size) * counts))
            nodes[pool] = max(nodes[pool], -(-fitting // (per_node // int(size))))
        nodes[pool] += int(np.sum((whole * counts)[sizes > per_node]))
    return nodes


def _ruled_nodes(problem: MixProblem, solution: MixSolution, copies: IntArray) -> IntArray:
    """Nodes kept where a rule names the nodes of a pool: none is given up there."""
    named = np.zeros(solution.nodes.size, dtype=np.int64)
    for row in problem.rules:
        for block, index, _ in row.terms:
            if block == "nodes":
                named[index] = solution.nodes[index]
    return named


def _restated(
    problem: MixProblem, solution: MixSolution, copies: IntArray, paid: IntArray
) -> tuple[tuple[str, float], ...]:
    values = dict(solution.stage_values)
    values["cost"] = float(problem.pool_price_usd_per_gpu_hour @ paid)
    values["gpus_used"] = float(problem.queue_gpus_per_copy @ copies)
    return tuple(values.items())
