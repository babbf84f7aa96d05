"""Templates: every way a model can run on the GPUs of a pool, or the named reason why it cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.capacity import PackedTable
from planner.fleet import Pool
from planner.memo import Memo
from profiles.calibration import corrected, find_correction, find_terms
from profiles.engines import Engine
from profiles.layout import Layout, Refusal, layout_refusal
from profiles.measured_steps import MeasuredSteps, find_steps, tabulate_measured
from profiles.memory import EngineMemory, MemoryBudget, format_refusal, memory_budget
from profiles.models import ModelArchitecture
from profiles.precision import KvDtype, Quantization
from profiles.step_table import StepTable
from profiles.step_time import Deployment, tabulate_step

LARGEST_STEP_TOKENS = 8192
TOKEN_BUDGETS = (512, 1024, 2048, 4096, 8192)
SEQUENCE_LIMITS = (8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A model of the spec with its architecture resolved and its search space written out."""

    name: str
    architecture: ModelArchitecture
    quantizations: tuple[Quantization, ...]
    tp: tuple[int, ...] | None
    pp: tuple[int, ...]
    ep: tuple[int, ...] | None
    forbidden: tuple[tuple[int, int, int], ...]
    max_model_len: int
    kv_dtype: KvDtype | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouted:
    """One layout of a model on one pool whose weights fit, with its step table; settings are still open."""

    id: str
    pool: Pool
    model: ModelPlan
    layout: Layout
    engine: Engine
    table: StepTable
    packed: PackedTable

    @property
    def token_budgets(self) -> tuple[int, ...]:
        """The grid of max_num_batched_tokens, ascending: from the longest prompt on where prompts cannot be cut."""
        return token_budgets(self.model, self.engine)

    def budget(self, max_num_seqs: int, max_num_batched_tokens: int) -> MemoryBudget | Refusal:
        """Memory at these settings, or why they do not fit."""
        memory = EngineMemory(
            gpu_memory_utilization=self.engine.gpu_memory_utilization,
            process_overhead_bytes=self.engine.process_overhead_bytes,
            cuda_graph_bytes=0,  # counted in the process overhead of the engine's file
            max_model_len_tokens=self.model.max_model_len,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            block_tokens=self.engine.block_tokens,
            reserved_blocks=self.engine.reserved_blocks,
            kv_fraction_of_free=self.engine.kv_fraction_of_free,
        )
        return memory_budget(self.model.architecture, self.layout, self.pool.gpu, memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A layout that cannot run, or cannot meet a workload's limits, and why."""

    template: str
    model: str
    pool: str
    sentence: str


def token_budgets(model: ModelPlan, engine: Engine) -> tuple[int, ...]:
    """The grid of max_num_batched_tokens for a model; empty where prompts are not cut and can be longer than it has."""
    if engine.chunked_prefill and not model.architecture.encoder_only:
        return TOKEN_BUDGETS
    return tuple(tokens for tokens in TOKEN_BUDGETS if tokens >= model.max_model_len)


def layouts(
    model: ModelPlan, pool: Pool, engine: Engine, steps: Memo[StepTable]
) -> tuple[list[Layouted], list[Refused]]:
    """All layouts of a model on a pool: those that run, with their step tables, and those that do not, with reasons."""
    found: list[Layouted] = []
    refused: list[Refused] = []
    for quantization, tp, pp, ep in _search_space(model, pool):
        name = f"{pool.name}/{model.name}/{quantization}/tp{tp}pp{pp}ep{ep}"
        layout = Layout(quantization=quantization, kv_dtype=kv_dtype_of(model, pool), tp=tp, pp=pp, ep=ep)
        reason = _reason_against(model, pool, layout, engine)
        if reason is None:
            table = _tabulated(model, pool, layout, engine, steps)
            one = Layouted(
                id=name, pool=pool, model=model, layout=layout, engine=engine, table=table, packed=PackedTable(table)
            )
            budget = one.budget(SEQUENCE_LIMITS[0], one.token_budgets[0])
            if not isinstance(budget, Refusal):
                found.append(one)
                continue
            reason = budget.sentence
        refused.append(Refused(template=name, model=model.name, pool=pool.name, sentence=reason))
    return found, refused


def kv_dtype_of(model: ModelPlan, pool: Pool) -> KvDtype:
    """The KV cache's type: the one asked for, else the 16-bit type that the GPU computes in."""
    return model.kv_dtype or KvDtype(pool.gpu.half_precision)


def _search_space(model: ModelPlan, pool: Pool) -> Iterator[tuple[Quantization, int, int, int]]:
    tps: Sequence[int] = model.tp or [t for t in (1, 2, 4, 8, 16) if t <= pool.gpus_per_node]
    for quantization in model.quantizations:
        for tp in tps:
            for pp in model.pp:
                for ep in model.ep or ((1, tp) if model.architecture.moe and tp > 1 else (1,)):
                    if not any(_matches(f, (tp, pp, ep)) for f in model.forbidden):
                        yield quantization, tp, pp, ep


def _matches(forbidden: tuple[int, int, int], combination: tuple[int, int, int]) -> bool:
    """Whether a combination is forbidden; 0 in a forbidden one stands for any value."""
    return all(f in (0, c) for f, c in zip(forbidden, combination, strict=True))


def _reason_against(model: ModelPlan, pool: Pool, layout: Layout, engine: Engine) -> str | None:
    if layout.tp > pool.gpus_per_node:
        return f"tp {layout.tp} needs more GPUs than the {pool.gpus_per_node} of one node of {pool.name}."
    if layout.ep > layout.tp:
        return f"ep {layout.ep} above tp {layout.tp} (attention data parallelism) is not planned yet."
    whole_nodes = -(-layout.tp * layout.pp // pool.gpus_per_node)
    if whole_nodes > pool.max_nodes:
        return f"tp {layout.tp} × pp {layout.pp} needs {whole_nodes} nodes; {pool.name} has at most {pool.max_nodes}."
    if model.max_model_len > model.architecture.max_position_embeddings:
        return (
            f"{model.name} takes at most {model.architecture.max_position_embeddings} tokens,"
            f" max_model_len asks for {model.max_model_len}."
        )
    if not token_budgets(model, engine):
        what = "is an encoder" if model.architecture.encoder_only else f"runs on {engine.name}"
        return (
            f"{model.name} {what}, whose prompts are not cut: max_model_len {model.max_model_len} is above the"
            f" largest planned step of {TOKEN_BUDGETS[-1]} tokens."
        )
    refusal = layout_refusal(model.architecture, layout) or format_refusal(layout, pool.gpu)
    if refusal is None and pool.gpu.generation == "cpu" and _measured(model, pool, layout) is None:
        return f"no steps of {model.name} in {layout.quantization} at tp {layout.tp} were measured on {pool.gpu.name}."
    return refusal.sentence if refusal else None


def _measured(model: ModelPlan, pool: Pool, layout: Layout) -> MeasuredSteps | None:
    key = (layout.quantization, layout.kv_dtype, layout.tp, layout.pp, layout.ep)
    return find_steps(pool.steps, model.architecture.digest, key)


def _tabulated(model: ModelPlan, pool: Pool, layout: Layout, engine: Engine, steps: Memo[StepTable]) -> StepTable:
    measured = _measured(model, pool, layout)
    if measured:
        table = tabulate_measured(measured, LARGEST_STEP_TOKENS)
    else:
        deployment = _deployment(model, pool, layout, engine)
        table = steps.answer(deployment, lambda: tabulate_step(deployment))
    key = (layout.quantization, layout.tp, layout.pp, layout.ep)
    correction = find_correction(pool.calibration, pool.gpu.name, model.architecture.digest, key)
    if correction is not None:
        table = corrected(table, correction.step_factor, correction.request_s)
    return table


def _deployment(model: ModelPlan, pool: Pool, layout: Layout, engine: Engine) -> Deployment:
    return Deployment(
        model=model.architecture,
        gpu=pool.gpu,
        engine=engine,
        quantization=layout.quantization,
        kv_dtype=layout.kv_dtype,
        tp=layout.tp,
        pp=layout.pp,
        ep=layout.ep,
        max_tokens=LARGEST_STEP_TOKENS,
        intra_node_bytes_per_s=pool.intra_node_bytes_per_s,
        inter_node_bytes_per_s=pool.inter_node_bytes_per_s,
        gpus_per_node=pool.gpus_per_node,
        terms=find_terms(pool.calibration, pool.gpu.name, model.architecture.digest, layout.quantization),
    )
