"""Measured runs from `silicon_sample.csv` of aiconfigurator-core (NVIDIA, Apache-2.0), told apart by how they were run.

The lengths, concurrencies and dates of its vLLM rows are those of a public benchmark (InferenceMAX) whose scripts send
10 prompts for every client, all clients at once at the start, lengths uniform on 80 to 100 % of the label, and report
means over all requests. Rows of another harness (other lengths) are left out.

Rows of other engines need more reading. The same measurements stand under DeepSeek-V3 and under DeepSeek-R1, twice or
three times with their ranks written differently: they count once. Runs that stand under DeepSeek-R1 alone speculated
(multi-token prediction): at 4 clients they take 0.45 to 0.75 of the time a token of the others of the same
configuration. The SGLang rows without a version sent no request before the clock ran: 30 to 90 s of the first burst is
the compilation of kernels.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from planner.measured_runs import MeasuredRun, RunsError
from planner.question import Question
from planner.sample_launches import Served, launch_of
from profiles.engines import load_engine
from profiles.gpus import load_gpu
from profiles.models import load_model, model_names

LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
SYSTEMS: Mapping[str, str] = {"h100_sxm": "h100-sxm-80gb", "h200_sxm": "h200-sxm-141gb", "b200_sxm": "b200-sxm-180gb"}
FORMATS: Mapping[str, str] = {"fp8": "fp8", "fp4": "nvfp4", "int4": "int4", "bf16": "bf16"}
LOW_FRACTION = 0.8
QUEUED = 6.0
LISTED, SPECULATED = "deepseek-v3", "deepseek-r1"
FOUR_BITS = ("fp4", "int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What runs must share to share engine terms: how the rows name it."""

    model: str
    gpu: str
    precision: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    """One row: its deployment, the run, and why its figures stand apart from the others: its TTFT is mostly the wait
    for KV memory, it speculated, or it began with the compilation of kernels.
    """

    deployment: Deployment
    run: MeasuredRun
    kv_bound: bool
    speculated: bool = False
    cold: bool = False

    @property
    def plain(self) -> bool:
        """Whether terms can be fitted on it."""
        return not (self.kv_bound or self.speculated or self.cold)


def read_sample(path: Path, engine: str = "vllm") -> list[SampleRun]:
    """The aggregated rows of an engine (a catalogue name, or a file) with explicit tp on the GPUs of SYSTEMS.

    Models that the catalogue lacks are left out, and all but one of several copies of a row.
    A run counts as bound by KV memory when its TTFT is more than 6 times the median of the runs of its deployment with
    the same input length. RunsError when the file is not such a table.
    """
    backend = load_engine(engine).name
    rows = [row for row in _rows(path) if _in_scope(row, backend)]
    names = {load_model(name).hf_id.removesuffix("-Instruct"): name for name in model_names()}
    found = []
    for row in rows:
        name = names.get(row["model_path"].removesuffix("-Instruct"))
        if name is not None:
            run = _run(path, row, name)
            found.append((_deployment(row, name), replace(run, question=replace(run.question, engine=engine))))
    found = _once(found)
    return [
        SampleRun(
            deployment=deployment,
            run=run,
            kv_bound=bound,
            speculated=deployment.model == SPECULATED,
            cold=backend == "sglang" and not deployment.version,
        )
        for (deployment, run), bound in zip(found, _kv_bound(found), strict=True)
    ]


def _once(found: Sequence[tuple[Deployment, MeasuredRun]]) -> list[tuple[Deployment, MeasuredRun]]:
    """The runs without the copies of those of DeepSeek: what was measured to the last digit alike is one run."""
    kept: dict[tuple[object, ...], tuple[Deployment, MeasuredRun]] = {}
    for number, (deployment, run) in enumerate(sorted(found, key=lambda one: one[0].model == SPECULATED)):
        named = deployment.model in (LISTED, SPECULATED)
        key = (deployment.gpu, deployment.precision, run.ttft_ms, run.tpot_ms) if named else (number,)
        kept.setdefault(key, (deployment, run))
    return list(kept.values())


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunsError(f"{path} cannot be read: {error}.") from error


def _in_scope(row: Mapping[str, str], engine: str) -> bool:
    try:
        lengths = (int(float(row["isl"])), int(float(row["osl"])))
        named = (row["backend"], row["mode"]) == (engine, "agg") and bool(row["tp_size"])
        return named and row["system"] in SYSTEMS and lengths in LENGTHS
    except (KeyError, ValueError) as error:
        raise RunsError(f"the file is not a silicon_sample.csv: {error}.") from error


def _deployment(row: Mapping[str, str], name: str) -> Deployment:
    return Deployment(
        model=name, gpu=SYSTEMS[row["system"]], precision=row["precision"], version=row["backend_version"]
    )


def _run(path: Path, row: Mapping[str, str], name: str) -> MeasuredRun:
    tp, ep, attention_dp = _ranks(row)
    lengths, clients = (_whole(row, "isl", 1), _whole(row, "osl", 1)), _whole(row, "concurrency", 1)
    gpu = SYSTEMS[row["system"]]
    launch = launch_of(
        Served(
            engine=row["backend"],
            model=name,
            generation=load_gpu(gpu).generation,
            small_weights=row["precision"] in FOUR_BITS,
            lengths=lengths,
            tp=tp,
            clients=clients,
        )
    )
    return MeasuredRun(
        question=Question(
            model=name,
            gpu=gpu,
            input_tokens=lengths[0],
            output_tokens=lengths[1],
            tp=tp,
            pp=_whole(row, "pp_size", 1),
            ep=ep,
            attention_dp=attention_dp,
            quantization=_format(row, name),
            concurrency=clients,
            length_low_fraction=LOW_FRACTION,
            **asdict(launch),
        ),
        ttft_ms=float(row["silicon_ttft_ms"]),
        tpot_ms=float(row["silicon_tpot_ms"]),
        where=f"{path}: {row['id']}",
    )


def _whole(row: Mapping[str, str], column: str, default: int) -> int:
    return int(float(row[column])) if row[column] else default


def _format(row: Mapping[str, str], name: str) -> str:
    """The format of the checkpoint that was run: fp8 means the model's own where that is block-scaled."""
    own = load_model(name).dtype
    return own.value if row["precision"] == "fp8" and own.value.startswith("fp8") else FORMATS[row["precision"]]


def _ranks(row: Mapping[str, str]) -> tuple[int, int, int]:
    """(tp, ep, ranks of attention with batches of their own) of a row.

    A blank attention_dp_size beside more expert ranks than tp means that tp was left at 1: all ranks share a layer.
    Rows with attention_dp_size = tp and moe_ep_size = tp² come from a launch with tp and expert parallelism over the
    same GPUs: what they measured equals the rows that are labelled so, within 2 %. Other engines' rows label the same
    launch with moe_tp_size = moe_ep_size and tp_size (times attention_dp_size) their product; theirs with tp_size 1 and
    attention_dp_size above 1 did run attention so on all ranks of the experts.
    """
    tp, dp = _whole(row, "tp_size", 1), _whole(row, "attention_dp_size", 1)
    moe_tp, ep = _whole(row, "moe_tp_size", 1), _whole(row, "moe_ep_size", 1)
    if row["backend"] != "vllm" and tp == 1 and dp > 1:
        return 1, ep, ep
    if ep > 1 and moe_tp == ep and moe_tp * ep == tp * dp:
        return ep, ep, 1
    if dp > 1:
        return tp, tp, 1
    return (moe_tp * ep if not row["attention_dp_size"] and row["moe_tp_size"] else tp), ep, 1


def _kv_bound(found: Sequence[tuple[Deployment, MeasuredRun]]) -> list[bool]:
    ttft: dict[tuple[Deployment, int], list[float]] = {}
    for deployment, run in found:
        ttft.setdefault((deployment, run.question.input_tokens), []).append(run.ttft_ms)
    return [
        run.ttft_ms > QUEUED * float(np.median(ttft[deployment, run.question.input_tokens]))
        for deployment, run in found
    ]
