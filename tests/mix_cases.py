"""Mix problems for tests: one by hand, small random ones that can be enumerated, larger ones that look real."""

from dataclasses import dataclass, replace

import numpy as np

from solvers.mix_problem import Block, MixProblem, RuleRow, SurviveRow


def make(
    *,
    prices: list[float],
    per_node: list[int],
    nodes: list[int],
    by_node: list[bool],
    rates: list[float],
    queues: list[tuple[int, int, int, list[float]]],
    brackets: list[list[tuple[int, int, float]]],
    workloads: list[int] | None = None,
    priority: list[int] | None = None,
    best_effort: list[bool] | None = None,
) -> MixProblem:
    """A problem from lists. `queues`: (pool, GPUs, most copies, share row); `brackets`: (low, high, rps) each."""
    of = list(range(len(rates))) if workloads is None else workloads
    count = max(of) + 1
    rows = [(q, *bracket) for q, own in enumerate(brackets) for bracket in own]
    return MixProblem(
        pool_price_usd_per_gpu_hour=np.array(prices, dtype=np.float64),
        pool_gpus_per_node=np.array(per_node, dtype=np.int64),
        pool_max_nodes=np.array(nodes, dtype=np.int64),
        pool_buys_nodes=np.array(by_node, dtype=bool),
        workload_priority=np.array([1] * count if priority is None else priority, dtype=np.int64),
        workload_best_effort=np.array([False] * count if best_effort is None else best_effort, dtype=bool),
        workload_tokens_per_request=np.arange(1.0, count + 1.0),
        demand_workload=np.array(of, dtype=np.int64),
        demand_rate_rps=np.array(rates, dtype=np.float64),
        queue_pool=np.array([q[0] for q in queues], dtype=np.int64),
        queue_gpus_per_copy=np.array([q[1] for q in queues], dtype=np.int64),
        queue_max_copies=np.array([q[2] for q in queues], dtype=np.int64),
        share=np.array([q[3] for q in queues], dtype=np.float64).reshape(len(queues), len(rates)),
        bracket_queue=np.array([r[0] for r in rows], dtype=np.int64),
        bracket_low=np.array([r[1] for r in rows], dtype=np.int64),
        bracket_high=np.array([r[2] for r in rows], dtype=np.int64),
        bracket_capacity_rps=np.array([r[3] for r in rows], dtype=np.float64),
    )


def two_pools() -> MixProblem:
    """Two workloads, a dear pool of whole nodes and a cheap one of single GPUs; 14 USD per hour is the optimum."""
    return make(
        prices=[2.0, 1.0],
        per_node=[4, 2],
        nodes=[2, 3],
        by_node=[True, False],
        rates=[6.0, 2.0],
        queues=[(0, 2, 4, [1.0, 0.0]), (1, 1, 6, [1.0, 0.0]), (1, 2, 3, [0.0, 1.0])],
        brackets=[[(1, 1, 2.0), (2, 4, 3.0)], [(1, 6, 1.0)], [(1, 3, 0.8)]],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Which parts of the problem a random case has."""

    rules: bool
    survive: bool
    allow_unmet: bool
    best_effort: bool
    by_node: bool


def random_small(seed: int) -> MixProblem:
    """A problem of up to 2 pools, 3 demands and 5 queues with few copies: small enough to try every mix."""
    rng = np.random.default_rng(seed)
    features = Features(
        rules=seed % 2 == 0,
        survive=seed % 5 == 0,
        allow_unmet=seed % 4 == 1,
        best_effort=seed % 3 == 0,
        by_node=seed % 7 < 4,
    )
    pools, demands = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    workloads = _workloads(rng, demands)
    queues = [_queue(rng, pools, workloads, i % demands) for i in range(int(rng.integers(demands, 6)))]
    count = max(workloads) + 1
    problem = make(
        prices=rng.choice([0.0, 1.0, 1.3, 2.0, 3.1], size=pools, p=[0.1, 0.3, 0.2, 0.2, 0.2]).tolist(),
        per_node=rng.integers(1, 5, size=pools).tolist(),
        nodes=rng.integers(2, 6, size=pools).tolist(),
        by_node=[features.by_node] * pools,
        rates=np.round(rng.uniform(0.3, 2.5, size=demands), 2).tolist(),
        queues=queues,
        brackets=[_brackets(rng, queue[2]) for queue in queues],
        workloads=workloads,
        priority=rng.integers(1, 3, size=count).tolist(),
        best_effort=[features.best_effort and w == count - 1 for w in range(count)],
    )
    problem = replace(problem, allow_unmet=features.allow_unmet)
    if features.rules:
        problem = replace(problem, rules=tuple(_rule(rng, problem, i) for i in range(int(rng.integers(1, 3)))))
    if features.survive:
        problem = replace(problem, survive=tuple(_survive(rng, problem, i) for i in range(int(rng.integers(1, 3)))))
    return problem


def _workloads(rng: np.random.Generator, demands: int) -> list[int]:
    of = [0]
    for _ in range(demands - 1):
        of.append(of[-1] + int(rng.integers(0, 2)))
    return of


def _queue(rng: np.random.Generator, pools: int, workloads: list[int], own: int) -> tuple[int, int, int, list[float]]:
    share = np.zeros(len(workloads))
    share[own] = 1.0
    if rng.random() < 0.3:  # a mix of this demand and another
        other = int(rng.integers(0, len(workloads)))
        share[own] -= 0.25
        share[other] += 0.25
    return int(rng.integers(0, pools)), int(rng.integers(1, 5)), int(rng.integers(1, 4)), share.tolist()


def _brackets(rng: np.random.Generator, most: int) -> list[tuple[int, int, float]]:
    base = float(rng.uniform(0.4, 3.0))
    if rng.random() < 0.3:
        return [(1, most, round(base, 3))]
    growth = rng.uniform(0.8, 1.5, size=most)
    rows = [(n + 1, n + 1, round(base * float(np.prod(growth[:n])), 3)) for n in range(most)]
    return [row for row in rows if row[0] == 1 or rng.random() < 0.9]


def _rule(rng: np.random.Generator, problem: MixProblem, number: int) -> RuleRow:
    block = list(Block)[int(rng.integers(0, 4))]
    size = len(problem.queue_pool) if block in (Block.COPIES, Block.FLOW_RPS) else len(problem.pool_max_nodes)
    indices = rng.permutation(size)[: int(rng.integers(1, 3))]
    sense = ("<=", ">=", "<=", ">=", "==")[int(rng.integers(0, 5))]
    bound = float(rng.integers(0, 5)) if block != Block.FLOW_RPS else round(float(rng.uniform(0.1, 3.0)), 2)
    terms = tuple((block, int(i), float(rng.choice([1.0, 1.0, 2.0]))) for i in indices)
    return RuleRow(rule=f"rule {number}", terms=terms, sense=sense, bound=bound)  # type: ignore[arg-type]


def _survive(rng: np.random.Generator, problem: MixProblem, number: int) -> SurviveRow:
    pools = len(problem.pool_max_nodes)
    return SurviveRow(
        rule=f"survive {number}",
        workload=int(rng.integers(0, len(problem.workload_priority))),
        fraction=round(float(rng.uniform(0.1, 0.6)), 2),
        kind="domain" if rng.random() < 0.6 else "zone",
        pool_domains=rng.integers(1, 4, size=pools).astype(np.int64),
        lost_pools=(int(rng.integers(0, pools)),),
    )


POOLS = (  # price per GPU-hour, GPUs per node, most nodes, relative speed
    (0.8, 4, 40, 1.0),
    (1.8, 8, 20, 3.2),
    (3.0, 8, 16, 6.5),
    (3.8, 8, 8, 8.0),
)
LOWS = (1, 2, 3, 4, 6, 8, 12, 16)


def realistic(seed: int, workloads: int, queues_per_workload: int = 30) -> MixProblem:
    """Dedicated replicas of `workloads` models on four pools: tp 1 to 8, several settings each, economies of scale."""
    rng = np.random.default_rng(seed)
    rates = np.round(rng.lognormal(2.0, 1.2, size=workloads), 2)
    queues: list[tuple[int, int, int, list[float]]] = []
    brackets: list[list[tuple[int, int, float]]] = []
    for w in range(workloads):
        speed = float(rng.lognormal(0.3, 0.9))
        least_tp = int(rng.choice([1, 1, 1, 2, 4]))
        for _ in range(queues_per_workload):
            pool = int(rng.integers(0, len(POOLS)))
            tp = int(rng.choice([t for t in (1, 2, 4, 8) if t >= least_tp and t <= POOLS[pool][1]]))
            scale = POOLS[pool][3] * tp**0.88 * float(rng.uniform(0.7, 1.0)) * speed / 4
            share = np.zeros(workloads)
            share[w] = 1.0
            queues.append((pool, tp, 64, share.tolist()))
            brackets.append(_scaled_brackets(scale, float(rng.uniform(0.3, 0.9))))
    return make(
        prices=[p[0] for p in POOLS],
        per_node=[p[1] for p in POOLS],
        nodes=[p[2] for p in POOLS],
        by_node=[True, True, True, False],
        rates=rates.tolist(),
        queues=queues,
        brackets=brackets,
    )


def _scaled_brackets(rate_rps: float, single: float) -> list[tuple[int, int, float]]:
    """Capacity per copy grows from `single` of the rate at one copy towards all of it."""
    highs = [low - 1 for low in LOWS[1:]] + [64]
    return [(lo, hi, rate_rps * (1 - (1 - single) / lo**0.5)) for lo, hi in zip(LOWS, highs, strict=True)]
