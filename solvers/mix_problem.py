"""The mix problem: how many copies of which templates, on what hardware, serving which share of each demand.

Symbols follow FORMULATION F1. A *queue* is one router with identical copies of one template behind it; a queue
serves its demands in fixed proportions (`share`), which makes it one point of the template's polytope, priced
as a whole: demands with different SLOs on one replica are not additive, so a mix is evaluated, never summed.

    min  Σ_p price_p · paid_p
    Σ_q share[q, d] · φ_q + u_d = r_d                          every demand d
    φ_q <= Σ_i capacity_i · n_i,  lo_i z_i <= n_i <= hi_i z_i,  Σ_i z_i <= 1     every queue q, its brackets i
    Σ_{q in p} gpus_q · x_q <= paid_p <= gpus_per_node_p · nodes_p,  nodes_p <= max_nodes_p,  x_q = Σ_i n_i
    Σ_{q in p, size_q >= t} floor(size_q / t) x_q <= nodes_p · floor(gpus_per_node_p / t)        F4, every size t
    rule rows; survive rows (F3)
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class Block(StrEnum):
    """The variables that a rule row may speak of."""

    COPIES = "copies"  # x_q, indexed by queue
    NODES = "nodes"  # nodes_p in use or bought, indexed by pool
    PAID_GPUS = "paid_gpus"  # paid_p: GPUs that are paid for, indexed by pool
    FLOW_RPS = "flow_rps"  # φ_q, indexed by queue


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """One linear row `Σ coefficient · variable (<=, >=, ==) bound` that a rule of the spec asks for.

    `rule` names the rule (rows of one rule share it), and is what a conflict reports.
    """

    rule: str
    terms: tuple[tuple[Block, int, float], ...]
    sense: Literal["<=", ">=", "=="]
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SurviveRow:
    """After the loss of any one failure domain, `fraction` of the workload's rate is still served (F3).

    `kind` "domain" (node, rack): at most κ copies of a queue stand in one of `pool_domains[p]` domains of its pool;
    the copies left after losing κ carry their share. "zone": the pools of `lost_pools` go together, and the other
    queues carry it (recourse flows). One row for each zone that can be lost.
    """

    rule: str
    workload: int
    fraction: float
    kind: Literal["domain", "zone"]
    pool_domains: IntArray  # [P] number of domains of each pool ("domain")
    lost_pools: tuple[int, ...] = ()  # "zone"


@dataclass(frozen=True, slots=True, kw_only=True)
class MixProblem:
    """Arrays of one mix problem. P pools, W workloads, D demands, Q queues, B brackets.

    Demand d belongs to workload `demand_workload[d]`; a workload's classes are its demands. Queue q serves
    Σ_d share[q, d] · φ_q; `share` rows sum to 1 and name only demands of the same model. Brackets of a queue are
    sorted by `bracket_low`, disjoint, and `bracket_capacity_rps` is requests per second *per copy* while the number
    of copies lies in [low, high]. Best-effort workloads take part in no stage before `best_effort`.
    """

    pool_price_usd_per_gpu_hour: FloatArray  # [P], 0 for sunk (reserved) GPUs
    pool_gpus_per_node: IntArray  # [P]
    pool_max_nodes: IntArray  # [P]
    pool_buys_nodes: BoolArray  # [P] True: whole nodes are paid for; False: single GPUs
    workload_priority: IntArray  # [W], 1 is the most important
    workload_best_effort: BoolArray  # [W]
    workload_tokens_per_request: FloatArray  # [W], weight of a best-effort request
    demand_workload: IntArray  # [D]
    demand_rate_rps: FloatArray  # [D]
    queue_pool: IntArray  # [Q]
    queue_gpus_per_copy: IntArray  # [Q]; more than gpus_per_node means whole nodes
    queue_max_copies: IntArray  # [Q]
    share: FloatArray  # [Q, D]
    bracket_queue: IntArray  # [B], sorted
    bracket_low: IntArray  # [B] >= 1
    bracket_high: IntArray  # [B]
    bracket_capacity_rps: FloatArray  # [B], per copy
    allow_unmet: bool = False
    rules: tuple[RuleRow, ...] = ()
    survive: tuple[SurviveRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MixSolution:
    """Copies, hardware and flows of one mix.

    `flow_rps[q]` is balanced: within a workload the load follows capacity as far as the rules let it.
    `stage_values` are the lexicographic objectives in order: (name, value).
    """

    copies: IntArray  # [Q]
    nodes: IntArray  # [P] nodes in use or bought
    paid_gpus: IntArray  # [P]
    flow_rps: FloatArray  # [Q]
    unmet_rps: FloatArray  # [D]
    copies_per_domain_max: IntArray  # [Q] κ for placement (node or rack survival); 0: no limit
    cost_usd_per_hour: float
    stage_values: tuple[tuple[str, float], ...]
