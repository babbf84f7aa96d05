"""`muxplan profile engine`: the steps of models on this machine's device, measured on the running engine.

The windows (bursts of decodes, prompts one at a time) of all models are gone through in passes, one model at a time, so
that what else the machine does spreads over all points; the median of the passes counts.
"""

import datetime
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.load.requests import Target
from planner.profile_windows import DECODED, LONG_BATCH, SHORT_PROMPT, Bench, fitted_steps, measure_pass
from planner.progress import Progress
from planner.runtime.engine_process import HOST, EngineProcess, check_memory, start_engine
from planner.runtime.environment import EngineEnvironment
from planner.runtime.errors import EngineError
from profiles.catalogue_files import Provenance
from profiles.engines import Engine
from profiles.gpus import Gpu, load_gpu
from profiles.measured_steps import DeviceProfile
from profiles.memory import kv_bytes_per_token_per_rank
from profiles.models import ModelArchitecture
from profiles.precision import Quantization, native_kv_dtype

DEVICE_SCRIPT = Path(__file__).parent / "runtime" / "in_engine" / "measure_device.py"
DEVICE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model to measure: its name, the folder that the engine loads, and its architecture."""

    name: str
    folder: Path
    architecture: ModelArchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to measure. `devices` are GPU or core indices, one for each model in turn; batches and prompts are points."""

    engine: Engine
    gpu: str | None
    memory_bytes: int | None
    price_usd_per_hour: float | None
    devices: tuple[int, ...]
    batches: tuple[int, ...]
    prompts: tuple[int, ...]
    passes: int
    first_port: int
    logs: Path


def profile_engine(
    subjects: Sequence[Subject],
    environment: EngineEnvironment,
    settings: Settings,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> DeviceProfile:
    """The device profile of these models. EngineError when an engine dies or the measuring is cancelled."""
    gpu = _device(environment, settings)
    benches: list[Bench] = []
    try:
        for number, subject in enumerate(subjects):
            progress.say(f"starting {subject.name}")
            engine = _start(subject, number, environment, settings)
            url, vocabulary = f"http://{HOST}:{engine.port}", subject.architecture.vocab_size
            device = (settings.devices[number % len(settings.devices)],)
            target = Target(url=url, model=subject.name, vocabulary=vocabulary)
            benches.append(
                Bench(engine=engine, target=target, devices=device, batches=settings.batches, prompts=settings.prompts)
            )
            engine.wait_ready(subject.name, cancelled=cancelled)
        for number in range(settings.passes):
            progress.say(f"pass {number + 1} of {settings.passes}")
            measure_pass(benches, number, cancelled)
    finally:
        for bench in benches:
            bench.engine.stop()
    return DeviceProfile(
        gpu=gpu,
        engine=settings.engine.name,
        engine_version=environment.version,
        steps=tuple(
            fitted_steps(bench, subject.name, subject.architecture, on_cpu=environment.device == "cpu")
            for subject, bench in zip(subjects, benches, strict=True)
        ),
        sources=(
            Provenance(
                source=f"muxplan profile engine, {environment.version}, {settings.passes} passes",
                date=datetime.date.today(),
                covers=("gpu", "steps"),
            ),
        ),
    )


def _device(environment: EngineEnvironment, settings: Settings) -> Gpu:
    if settings.gpu is not None:
        return load_gpu(settings.gpu)
    try:
        done = subprocess.run(
            [environment.python, DEVICE_SCRIPT], capture_output=True, text=True, timeout=DEVICE_S, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        raise EngineError(f"the device cannot be measured with {environment.python}: {error}.") from error
    memory = settings.memory_bytes or found["memory_bytes"]
    return Gpu(
        name=str(found["name"]).lower().replace(" ", "-"),
        generation="cpu" if environment.device == "cpu" else "other",
        memory_bytes=memory,
        visible_memory_bytes=memory,
        memory_bandwidth_bytes_per_s=found["memory_bandwidth_bytes_per_s"],
        peak_flops=found["peak_flops"],
        sm_count=found["sm_count"],
        price_usd_per_gpu_hour=settings.price_usd_per_hour,
        sister="h100-sxm-80gb",
    )


def _start(subject: Subject, number: int, environment: EngineEnvironment, settings: Settings) -> EngineProcess:
    port = settings.first_port + number
    device = settings.devices[number % len(settings.devices)]
    longest = max(settings.prompts)
    kv_bytes = _kv_bytes(subject, settings, longest)
    label = f"the engine of {subject.name}"
    cpu = environment.device == "cpu"
    if cpu:
        check_memory(label, settings.engine.process_overhead_bytes + kv_bytes)
    flags: dict[str, object] = {
        "served-model-name": subject.name,
        "host": HOST,
        "port": port,
        "dtype": _dtype(subject.architecture),
        "max-model-len": longest + 2 * DECODED,
        "max-num-seqs": max(settings.batches),
        "max-num-batched-tokens": max(longest, max(settings.batches) * SHORT_PROMPT),
        "kv-cache-memory-bytes": kv_bytes,
    }
    words = ["vllm", "serve", str(subject.folder)]
    for name, value in flags.items():
        words += [f"--{name}", str(value)]
    # Prompts of a pass come again in the next one: a cached prefix would make them look quick.
    words.append("--no-enable-prefix-caching")
    words += [f"--{name}" for name, value in settings.engine.launch_arguments.items() if value is True]
    bound = ["taskset", "-c", str(device)] if cpu else []
    variables = (
        {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if cpu
        else {"CUDA_VISIBLE_DEVICES": str(device)}
    )
    return start_engine(
        label,
        environment.command([*bound, *words]),
        variables,
        folder=settings.logs,
        port=port,
        log=settings.logs / f"profile-{number}.log",
    )


def _kv_bytes(subject: Subject, settings: Settings, longest: int) -> int:
    """Room for every window at once, and a quarter more."""
    each = SHORT_PROMPT + 2 * DECODED + settings.engine.block_tokens
    tokens = max(
        max(settings.batches) * each, (LONG_BATCH + 1) * (longest + 2 * DECODED + settings.engine.block_tokens)
    )
    kv = native_kv_dtype(subject.architecture.dtype)
    return int(1.25 * tokens) * kv_bytes_per_token_per_rank(subject.architecture, kv, 1, 1)


def _dtype(architecture: ModelArchitecture) -> str:
    names = {Quantization.FP32: "float32", Quantization.FP16: "float16", Quantization.BF16: "bfloat16"}
    return names.get(architecture.dtype, "auto")
