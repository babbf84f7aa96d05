"""`muxplan profile engine`: step times of models on this machine's engine."""

import argparse
import sys
from pathlib import Path

from planner.files import atomic_write_yaml, check_writable
from planner.profile_engine import Settings, Subject, profile_engine
from planner.progress import Progress, interruptible, line_writer
from planner.runtime.environment import find_environment
from planner.runtime.errors import EngineError
from profiles.engines import load_engine
from profiles.measured_steps import DeviceProfile
from profiles.models import load_model
from profiles.units import GIB

FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    """Measure; 0 when the profile was written, 1 when an engine failed."""
    output = Path(arguments.output)
    check_writable(output)
    environment = find_environment(arguments.engine_python)
    subjects = [_subject(Path(folder)) for folder in arguments.models]
    logs = Path(arguments.logs).absolute()
    logs.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        engine=load_engine(arguments.engine),
        gpu=arguments.gpu,
        memory_bytes=int(arguments.memory_gib * GIB) if arguments.memory_gib else None,
        price_usd_per_hour=arguments.price,
        devices=tuple(arguments.devices),
        batches=tuple(sorted(set(arguments.batches))),
        prompts=tuple(sorted(set(arguments.prompts))),
        passes=arguments.passes,
        first_port=arguments.first_port,
        logs=logs,
    )
    with interruptible("stopping the engines (Ctrl-C again ends at once)") as interrupt:
        try:
            found = profile_engine(subjects, environment, settings, Progress(say=line_writer(sys.stderr)), interrupt)
        except EngineError as error:
            sys.stderr.write(f"muxplan: {error}\n")
            return FAILED
    atomic_write_yaml(output, found)
    sys.stdout.write(found.model_dump_json(indent=2) + "\n" if arguments.json else _text(found, output))
    return 0


def _subject(folder: Path) -> Subject:
    return Subject(
        name=folder.name, folder=folder.absolute(), architecture=load_model(str((folder / "config.json").absolute()))
    )


def _text(found: DeviceProfile, output: Path) -> str:
    lines = [f"{output}: {found.gpu.name}, {found.engine} {found.engine_version}"]
    for one in found.steps:
        law = one.step
        lines.append(
            f"{one.model} ({one.quantization}): {law.tokens[0]} tokens take {1e3 * law.linear_s[0]:.1f} ms, and"
            f" {law.tokens[-1]} {1e3 * law.linear_s[-1]:.0f} ms; {one.error_fraction:.1%} off its points"
            f" (median, {one.repeats} passes)"
        )
    return "\n".join(lines) + "\n"
