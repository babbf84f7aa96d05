"""The kernel tables that a check on kernels needs, measured first where there are none: the plan's shapes and sizes."""

from pathlib import Path

from planner.check.check_kernels import PLAIN_FORMATS, KernelOptions
from planner.check.subjects import steps_of, subjects_of
from planner.kernel_lines import Extent
from planner.mix_build import Market
from planner.plan_file import Plan
from planner.profile_kernels import Settings, profile_kernels
from planner.progress import Progress
from profiles.gpus import Gpu
from profiles.step_time import Deployment

TARGET_FRACTION = 0.05


def measure_tables(
    plan: Plan, market: Market, folder: Path, options: KernelOptions, limit_s: float, progress: Progress
) -> None:
    """Measure the kernels of the plan's groups, in plain weights, as far as their steps go, into `folder`."""
    subjects = subjects_of(plan, market, options.groups)
    steps = [step for s in subjects for step in steps_of(s, plan, market, options.duration_s, options.seed)]

    def deployments(gpu: Gpu) -> list[Deployment]:
        return [s.deployment(gpu, PLAIN_FORMATS[gpu.half_precision], market.engine) for s in subjects]

    longest = max(max([step.kv_tokens // max(step.decodes, 1), *(d + t for d, t in step.chunks)]) for step in steps)
    settings = Settings(
        python=options.python,
        device=options.device,
        cores=options.cores,
        gpu=None,
        deployments=deployments,
        extent=Extent(
            max_tokens=max(max(step.tokens for step in steps), 2),
            max_batch=max(max(step.decodes for step in steps), 1),
            max_context=2 * longest,
        ),
        target_fraction=TARGET_FRACTION,
        time_limit_s=limit_s,
        folder=folder,
    )
    profile_kernels(settings, progress, options.cancelled)
