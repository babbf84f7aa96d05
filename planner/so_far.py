"""A mix told to whoever waits for the plan: what it costs, and how full it leaves what serves each workload."""

import numpy as np

from planner.capacity_table import CapacityTable
from planner.mix_build import Market
from planner.progress import MixSoFar, ServedSoFar
from planner.queues import Queue
from solvers.mix_problem import MixSolution


def mix_so_far(market: Market, table: CapacityTable, solution: MixSolution) -> MixSoFar:
    """The mix by the capacities in force, before it is simulated; workloads that nothing serves are left out."""
    served = (_served(market, table, solution, w.index) for w in market.workloads)
    return MixSoFar(
        usd_per_hour=solution.cost_usd_per_hour,
        gpus={pool.name: int(solution.paid_gpus[pool.index]) for pool in market.pools},
        served=tuple(one for one in served if one is not None),
    )


def _served(market: Market, table: CapacityTable, solution: MixSolution, workload: int) -> ServedSoFar | None:
    flow = capacity = 0.0
    labels = []
    for queue in market.queues:
        copies = int(solution.copies[queue.index])
        share = sum(part for d, part in queue.parts if market.demands[d].workload == workload)
        if copies and share and solution.flow_rps[queue.index] > 0:
            flow += share * float(solution.flow_rps[queue.index])
            capacity += share * copies * table.per_copy_rps(queue.index, copies)
            labels.append(_label(queue, copies))
    if not labels:
        return None
    load = flow / capacity if capacity > 0 else float(np.inf)
    return ServedSoFar(workload=market.workloads[workload].name, served_by=", ".join(labels), load_fraction=load)


def _label(queue: Queue, copies: int) -> str:
    template = queue.template
    return f"{copies} × {template.quantization} at tp {template.tp} pp {template.pp} on {template.pool.name}"
