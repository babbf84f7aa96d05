"""`muxplan estimate`: one deployment, or every row of a CSV file."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from planner.estimate import Estimate, Estimator
from planner.estimate_rows import RowError, estimate_file
from planner.question import Question
from profiles.calibration import Calibration, load_calibration
from profiles.units import GIB, ms_from_s

WIDTH = 100
TELL_EVERY = 50


def run(arguments: argparse.Namespace) -> int:
    """Estimate; 0 when answered, 1 when the deployment was refused."""
    if arguments.rows:
        return _rows(arguments)
    question = _question(arguments)
    estimate = Estimator(_calibration(arguments)).answer(question)
    if arguments.json:
        sys.stdout.write(json.dumps(_as_json(question, estimate), indent=2) + "\n")
    else:
        _print(question, estimate)
    return 0 if estimate.status == "ok" else 1


def _rows(arguments: argparse.Namespace) -> int:
    if not arguments.output_file:
        raise RowError("estimate --from needs -o OUT.csv.")

    def tell(done: int, total: int) -> None:
        if done % TELL_EVERY == 0 or done == total:
            sys.stderr.write(f"{done} of {total} rows\n")

    answered, refused = estimate_file(Path(arguments.rows), Path(arguments.output_file), tell, _calibration(arguments))
    if arguments.json:
        sys.stdout.write(json.dumps({"answered": answered, "refused": refused, "file": arguments.output_file}) + "\n")
    else:
        sys.stdout.write(f"{answered} rows answered, {refused} refused; written to {arguments.output_file}\n")
    return 0


def _calibration(arguments: argparse.Namespace) -> Calibration | None:
    return load_calibration(Path(arguments.calibration)) if arguments.calibration else None


def _question(arguments: argparse.Namespace) -> Question:
    for name in ("model", "gpu", "input", "output_tokens"):
        if getattr(arguments, name) is None:
            flag = "--output" if name == "output_tokens" else f"--{name}"
            raise RowError(f"estimate needs {flag} (or --from ROWS.csv).")
    if arguments.rate is None and arguments.concurrency is None:
        raise RowError("estimate needs a load: --rate R or --concurrency C.")
    return Question(
        model=arguments.model,
        gpu=arguments.gpu,
        engine=arguments.engine,
        input_tokens=arguments.input,
        output_tokens=arguments.output_tokens,
        tp=arguments.tp,
        pp=arguments.pp,
        ep=arguments.ep,
        quantization=arguments.quantization,
        kv_dtype=arguments.kv_dtype,
        concurrency=arguments.concurrency,
        rate_rps=arguments.rate,
        max_num_seqs=arguments.max_num_seqs,
        max_num_batched_tokens=arguments.max_num_batched_tokens,
        gpu_memory_utilization=arguments.gpu_memory_utilization,
        num_requests=arguments.num_requests,
        length_low_fraction=arguments.length_low_fraction,
        start=arguments.start,
        seed=arguments.seed,
    )


def _as_json(question: Question, estimate: Estimate) -> dict[str, Any]:
    return {
        "question": asdict(question),
        "status": estimate.status,
        "reason": estimate.reason,
        "ttft_ms": estimate.ttft_ms.model_dump() if estimate.ttft_ms else None,
        "tpot_ms": estimate.tpot_ms.model_dump() if estimate.tpot_ms else None,
        "e2e_ms": estimate.e2e_ms.model_dump() if estimate.e2e_ms else None,
        "throughput_tokens_per_s": estimate.throughput_tokens_per_s,
        "served_rps": estimate.served_rps,
        "kv_tokens": estimate.kv_tokens,
        "gpus": estimate.gpus,
        "preemptions": estimate.preemptions,
        "evidence": estimate.evidence.model_dump(mode="json") if estimate.evidence else None,
        "breakdown": [
            {"kernel": name, "ms": round(ms_from_s(seconds), 6), "evidence": str(evidence)}
            for name, seconds, evidence in estimate.breakdown
        ],
        "memory": asdict(estimate.memory) if estimate.memory else None,
        "assumptions": list(estimate.assumptions),
    }


def _print(question: Question, estimate: Estimate) -> None:
    console = Console(width=WIDTH, highlight=False)
    if estimate.status != "ok":
        console.print(f"refused: {estimate.reason}", markup=False)
        return
    load = f"{question.concurrency} clients" if question.concurrency else f"{question.rate_rps:g} requests/s"
    console.print(f"{question.model} on {estimate.gpus} × {question.gpu}, {load}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("ms", "mean", "p50", "p90", "p99"):
        table.add_column(column, justify="left" if column == "ms" else "right")
    for name, values in (("TTFT", estimate.ttft_ms), ("TPOT", estimate.tpot_ms), ("e2e", estimate.e2e_ms)):
        if values is not None:
            table.add_row(name, *(f"{v:,.1f}" for v in (values.mean, values.p50, values.p90, values.p99)))
    console.print(table)
    console.print(
        f"{estimate.throughput_tokens_per_s:,.0f} output tokens/s, {estimate.served_rps:,.2f} requests/s,"
        f" {estimate.preemptions} preemptions"
    )
    if estimate.memory:
        memory = estimate.memory
        console.print(
            f"memory a GPU: {memory.weight_bytes / GIB:.1f} GiB weights, {memory.kv_bytes / GIB:.1f} GiB KV"
            f" ({estimate.kv_tokens:,} tokens), {memory.activation_bytes / GIB:.1f} GiB activations"
        )
    if estimate.evidence:
        shares = ", ".join(f"{fraction:.0%} {name}" for name, fraction in estimate.evidence.shares.items())
        console.print(f"evidence: {estimate.evidence.headline} ({shares} of the step time)")
    _print_breakdown(console, estimate)
    for line in estimate.assumptions:
        console.print(f"assumed: {line}", markup=False)


def _print_breakdown(console: Console, estimate: Estimate) -> None:
    total = sum(seconds for _, seconds, _ in estimate.breakdown)
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("one typical step, by kernel")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    table.add_column("evidence")
    for name, seconds, evidence in estimate.breakdown:
        table.add_row(name, f"{ms_from_s(seconds):.3f}", f"{seconds / total:.0%}", str(evidence))
    console.print(table)
