"""What `check --on kernels` found: steps as the device's tables predict them beside steps that it ran."""

from typing import Literal

from planner.check.result import CheckPart
from planner.render_plan import printable, wrapped


class StepFigures(CheckPart):
    """One step. `planned_ms`: on the plan's own GPU, engine included; the others on this device, kernels alone."""

    weight_fraction: float
    decodes: int
    kv_tokens: int
    chunks: tuple[tuple[int, int], ...]
    planned_ms: float
    predicted_ms: float
    measured_ms: float
    spread_fraction: float


class NeighbourSlowdown(CheckPart):
    """The time of the steps beside a group on the same GPU ÷ their time alone; predicted where a model is at hand."""

    group: str
    measured: float
    predicted: float | None = None
    evidence: str | None = None


class GroupKernels(CheckPart):
    """One group. Errors: measured ÷ predicted − 1 of the time of all steps, of those with prompts and without."""

    template: str
    model: str
    gpu: str
    quantization: str
    steps: tuple[StepFigures, ...]
    error_fraction: float
    decode_error_fraction: float | None
    prefill_error_fraction: float | None
    neighbours: tuple[NeighbourSlowdown, ...] = ()
    not_run: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    held: bool


class KernelsResult(CheckPart):
    """A whole check. `ended` says why when it did not run to its end; what was measured until then is kept."""

    version: Literal[1] = 1
    plan: str
    spec_digest: str
    level: Literal["kernels"] = "kernels"
    device: str
    torch: str
    gpu: str
    tolerance_fraction: float
    seed: int
    groups: dict[str, GroupKernels]
    left_out: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()
    ended: str | None = None
    held: bool


def render_kernels(result: KernelsResult) -> str:
    """Predicted beside measured, group by group, then what was left out."""
    said = "held" if result.held else "did NOT hold"
    lines = [
        f"{result.plan} as kernels on {result.device}, torch {result.torch}: the prediction {said}"
        f" (tolerance {result.tolerance_fraction:.0%})"
    ]
    for name, one in result.groups.items():
        lines += _group(name, one)
    lines.append(f"Not run: {'; '.join(result.not_measured)}.")
    if result.left_out:
        lines.append(f"Groups not run (a group of each template is): {', '.join(result.left_out)}.")
    if result.ended:
        lines.append(f"Cut short: {result.ended}")
    return "\n".join(line if line.startswith("  ") else wrapped(line) for line in lines) + "\n"


def _group(name: str, one: GroupKernels) -> list[str]:
    lines = ["", f"{printable(name)}: {printable(one.model)} in {one.quantization}, planned for {one.gpu}"]
    lines.append("  steps  decodes  KV tokens  prompt tokens  predicted ms  measured ms   error")
    for step in one.steps:
        prompt = sum(tokens for _, tokens in step.chunks)
        off = step.measured_ms / step.predicted_ms - 1.0
        lines.append(
            f"  {step.weight_fraction:5.1%} {step.decodes:8,} {step.kv_tokens:10,} {prompt:14,}"
            f" {step.predicted_ms:13.3f} {step.measured_ms:12.3f} {off:+7.1%}"
        )
    parts = [f"all steps {one.error_fraction:+.1%}"]
    for what, error in (("decode", one.decode_error_fraction), ("with prompts", one.prefill_error_fraction)):
        if error is not None:
            parts.append(f"{what} {error:+.1%}")
    lines.append(f"measured against predicted time: {', '.join(parts)}")
    lines += [_beside(neighbour) for neighbour in one.neighbours]
    if one.not_run:
        lines.append(f"of its kernels not run and not predicted: {', '.join(one.not_run)}")
    return lines + [f"Note: {note}" for note in one.notes]


def _beside(one: NeighbourSlowdown) -> str:
    guess = f", {one.predicted:.2f} × predicted ({one.evidence})" if one.predicted is not None else ""
    return f"beside {printable(one.group)} on the same GPU: {one.measured:.2f} × as long{guess}"
