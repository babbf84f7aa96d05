"""Refuses a mix problem that is not one: shapes, ranges, NaN. Every message names the field."""

import numpy as np
from numpy.typing import NDArray

from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow

SHARE_SUM_TOLERANCE = 1e-6


def validate(problem: MixProblem) -> None:
    """Raises ValueError, naming the field, on a NaN, an infinity, a negative number or shapes that disagree."""
    _check_pools(problem)
    _check_demands(problem)
    _check_queues(problem)
    _check_brackets(problem)
    for row in problem.rules:
        _check_rule(problem, row)
    for survive in problem.survive:
        _check_survive(problem, survive)


def _require(condition: bool, field: str, what: str) -> None:
    if not condition:
        raise ValueError(f"{field}: {what}")


def _vector(problem: MixProblem, field: str, size: int, least: float) -> None:
    values: NDArray[np.float64] = np.asarray(getattr(problem, field))
    _require(values.shape == (size,), field, f"shape {values.shape} where {(size,)} was expected")
    _require(bool(np.all(np.isfinite(values))), field, "has a NaN or an infinity")
    _require(bool(np.all(values >= least)), field, f"has a value below {least:g}")


def _index(problem: MixProblem, field: str, size: int, limit: int) -> None:
    _vector(problem, field, size, 0)
    values: NDArray[np.int64] = getattr(problem, field)
    _require(np.issubdtype(values.dtype, np.integer), field, f"has dtype {values.dtype} where integers were expected")
    _require(bool(np.all(values < limit)), field, f"names something beyond the last of {limit}")


def _whole(problem: MixProblem, field: str, size: int, least: int) -> None:
    _vector(problem, field, size, least)
    dtype = getattr(problem, field).dtype
    _require(np.issubdtype(dtype, np.integer), field, f"has dtype {dtype} where integers were expected")


def _flags(problem: MixProblem, field: str, size: int) -> None:
    values: NDArray[np.bool_] = getattr(problem, field)
    _require(values.shape == (size,), field, f"shape {values.shape} where {(size,)} was expected")
    _require(values.dtype == np.bool_, field, f"has dtype {values.dtype} where bool was expected")


def _check_pools(problem: MixProblem) -> None:
    pools = len(problem.pool_price_usd_per_gpu_hour)
    _vector(problem, "pool_price_usd_per_gpu_hour", pools, 0.0)
    _whole(problem, "pool_gpus_per_node", pools, 1)
    _whole(problem, "pool_max_nodes", pools, 0)
    _flags(problem, "pool_buys_nodes", pools)


def _check_demands(problem: MixProblem) -> None:
    workloads, demands = len(problem.workload_priority), len(problem.demand_rate_rps)
    _whole(problem, "workload_priority", workloads, 1)
    _flags(problem, "workload_best_effort", workloads)
    _vector(problem, "workload_tokens_per_request", workloads, 0.0)
    _index(problem, "demand_workload", demands, workloads)
    _vector(problem, "demand_rate_rps", demands, 0.0)


def _check_queues(problem: MixProblem) -> None:
    queues, demands = len(problem.queue_pool), len(problem.demand_rate_rps)
    _index(problem, "queue_pool", queues, len(problem.pool_price_usd_per_gpu_hour))
    _whole(problem, "queue_gpus_per_copy", queues, 1)
    _whole(problem, "queue_max_copies", queues, 0)
    share = problem.share
    _require(share.shape == (queues, demands), "share", f"shape {share.shape} where {(queues, demands)} was expected")
    _require(bool(np.all(np.isfinite(share))), "share", "has a NaN or an infinity")
    _require(bool(np.all(share >= 0)), "share", "has a value below 0")
    sums = share.sum(axis=1)
    _require(bool(np.all(np.abs(sums - 1.0) <= SHARE_SUM_TOLERANCE)), "share", "has a row that does not sum to 1")


def _check_brackets(problem: MixProblem) -> None:
    size = len(problem.bracket_queue)
    _index(problem, "bracket_queue", size, len(problem.queue_pool))
    _whole(problem, "bracket_low", size, 1)
    _whole(problem, "bracket_high", size, 1)
    _vector(problem, "bracket_capacity_rps", size, 0.0)
    _require(bool(np.all(problem.bracket_low <= problem.bracket_high)), "bracket_high", "is below bracket_low")
    steps = np.diff(problem.bracket_queue)
    _require(bool(np.all(steps >= 0)), "bracket_queue", "is not sorted")
    same = steps == 0
    after = problem.bracket_low[1:] > problem.bracket_high[:-1]
    _require(bool(np.all(after[same])), "bracket_low", "brackets of a queue overlap or are not sorted")


def _check_rule(problem: MixProblem, row: RuleRow) -> None:
    field = f"rules ({row.rule})"
    queues, pools = len(problem.queue_pool), len(problem.pool_price_usd_per_gpu_hour)
    sizes = {Block.COPIES: queues, Block.NODES: pools, Block.PAID_GPUS: pools, Block.FLOW_RPS: queues}
    _require(bool(np.isfinite(row.bound)), field, "has a bound that is not finite")
    _require(row.sense in ("<=", ">=", "=="), field, f"has the unknown sense {row.sense!r}")
    for block, index, coefficient in row.terms:
        _require(block in sizes, field, f"has the unknown block {block!r}")
        _require(0 <= index < sizes[block], field, f"names {block} {index}, beyond the last of {sizes[block]}")
        _require(bool(np.isfinite(coefficient)), field, "has a coefficient that is not finite")


def _check_survive(problem: MixProblem, row: SurviveRow) -> None:
    field = f"survive ({row.rule})"
    pools = len(problem.pool_price_usd_per_gpu_hour)
    _require(0 <= row.workload < len(problem.workload_priority), field, f"names the unknown workload {row.workload}")
    _require(0.0 <= row.fraction <= 1.0, field, f"has the fraction {row.fraction}, outside 0 to 1")
    _require(row.kind in ("domain", "zone"), field, f"has the unknown kind {row.kind!r}")
    if row.kind == "domain":
        domains = row.pool_domains
        _require(domains.shape == (pools,), field, f"pool_domains has shape {domains.shape}, expected {(pools,)}")
        _require(bool(np.all(domains >= 0)), field, "pool_domains has a value below 0")
    _require(all(0 <= p < pools for p in row.lost_pools), field, "lost_pools names a pool that does not exist")
