"""The command line: parses arguments, calls one command, turns errors into one sentence and an exit code.

Exit codes: 0 a plan, or a check that held; 1 no plan, or a check that failed; 2 bad input.
Nothing heavy is imported before a command needs it.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from profiles.errors import PlanningError

EXIT_BAD_INPUT = 2
DESCRIPTION = "Plans how a fleet of GPUs serves many models: what to buy, what runs where, and how good that is."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code comes back. Input that is wrong ends in one sentence on stderr."""
    arguments = _parser().parse_args(argv)
    if arguments.command is None:
        _parser().print_help(sys.stderr)
        return EXIT_BAD_INPUT
    try:
        name = getattr(arguments, "module", arguments.command.replace("-", "_"))
        code: int = importlib.import_module(f"planner.commands.{name}").run(arguments)
        sys.stdout.flush()
    except PlanningError as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"muxplan: {error}\n")
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # The reader of our output went away (`muxplan … | head`): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("muxplan: interrupted\n")
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="muxplan", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"muxplan {version('muxplan')}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for add in COMMANDS:
        add(commands, common)
    return parser


Commands = argparse._SubParsersAction  # the only name argparse has for this type


def _add_plan(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("plan", parents=[common], help="plan a fleet from a spec")
    parser.add_argument("spec", metavar="SPEC", help="spec file (YAML or JSON)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the plan there (whole, or not at all)")
    parser.add_argument("--solver", default="highs", help="MILP solver that PuLP finds: highs (default), cbc, …")
    parser.add_argument("--time-limit", type=_positive, default=60.0, metavar="S", help="wall limit; default 60 s")
    parser.add_argument("--gap", type=_fraction, default=1e-3, metavar="F", help="MILP gap to stop at; default 0.001")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the traffic draws; default 0")
    parser.add_argument("--what-if", action="store_true", help="allow templates that no engine can deploy today")


def _add_estimate(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("estimate", parents=[common], help="TTFT, TPOT and throughput of one deployment")
    parser.add_argument("--from", dest="rows", metavar="ROWS.csv", help="estimate every row of a CSV file")
    parser.add_argument("-o", dest="output_file", metavar="OUT.csv", help="with --from: where the answers go")
    parser.add_argument("--model", help="catalogue name, or the path of a Hugging Face config.json")
    parser.add_argument("--gpu", help="catalogue name, or the YAML file of a GPU")
    parser.add_argument("--engine", default="vllm", help="engine file of the catalogue, or a path; default vllm")
    for name in ("tp", "pp", "ep"):
        parser.add_argument(f"--{name}", type=_count, default=1, metavar="N")
    parser.add_argument("--quantization", help="default: the model's own")
    parser.add_argument("--kv-dtype", metavar="TYPE", help="bf16, fp16 or fp8; default by engine and GPU")
    parser.add_argument("--calibration", metavar="FILE", help="what muxplan calibrate wrote")
    parser.add_argument("--input", type=_count, metavar="N", help="mean input tokens")
    parser.add_argument("--output", dest="output_tokens", type=_count, metavar="N", help="mean output tokens")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=_positive, metavar="R", help="open loop: requests per second (Poisson)")
    load.add_argument("--concurrency", type=_count, metavar="C", help="closed loop: this many clients")
    parser.add_argument("--num-requests", type=_count, metavar="N", help="default 10 × concurrency, or 2,000")
    parser.add_argument(
        "--length-low-fraction", type=_fraction, default=1.0, metavar="F", help="lengths uniform on [F·L, L]"
    )
    parser.add_argument("--start", choices=("burst", "steady"), default="burst", help="how a closed loop starts")
    parser.add_argument("--max-num-seqs", type=_count, metavar="N")
    parser.add_argument("--max-num-batched-tokens", type=_count, metavar="N")
    parser.add_argument("--gpu-memory-utilization", type=_part, metavar="F", help="default: the engine's")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N")


def _add_simulate(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("simulate", parents=[common], help="simulate a plan on its own or on given traffic")
    parser.add_argument("plan", metavar="PLAN", help="plan file")
    parser.add_argument("--trace", metavar="FILE", help="replay this trace (needs --workload when there are several)")
    parser.add_argument("--workload", metavar="NAME", help="the workload that the trace belongs to")
    parser.add_argument("--duration", type=_positive, metavar="S", help="seconds of traffic; default: enough requests")
    parser.add_argument("--draws", type=_count, default=8, metavar="N", help="independent draws; default 8")
    parser.add_argument("--seed", type=_seed, default=1, metavar="N", help="default 1: not the draws that planned it")


def _add_export(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("export", parents=[common], help="write deployment files")
    parser.add_argument("plan", metavar="PLAN", help="plan file")
    parser.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help="vllm, compose, kubernetes, ray-serve, kserve, dynamo, llm-d or triton",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="directory to write to")
    parser.add_argument("--autoscale", metavar="KIND", help="with kubernetes: hpa or keda, within the plan's replicas")
    parser.add_argument("--force", action="store_true", help="write into a directory that holds other files")


def _add_explain(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("explain", parents=[common], help="why a plan is as it is, or why there is none")
    parser.add_argument("file", metavar="SPEC|PLAN", help="spec or plan file")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N")


def _add_diff(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("diff", parents=[common], help="what changes from one plan to another")
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")


def _add_sweep(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("sweep", parents=[common], help="plan many variants of a spec, on all cores")
    parser.add_argument("spec", metavar="SPEC", help="spec file (YAML or JSON)")
    varied = parser.add_mutually_exclusive_group(required=True)
    varied.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="PATH=V1,V2,…",
        help="values of a field, such as workloads.chat.traffic.rate_rps=20,40 or workloads.*.slo.ttft_ms=x0.5,x2;"
        " given again, all combinations are planned",
    )
    varied.add_argument("--variants", metavar="FILE.csv", help="paths in the header, a variant in each line")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="results.csv or results.parquet")
    parser.add_argument("--workers", type=_count, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    parser.add_argument("--ray", action="store_true", help="plan on a Ray cluster instead of this machine's cores")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="with --ray; default: RAY_ADDRESS, else a local one")
    parser.add_argument("--solver", default="highs", help="MILP solver that PuLP finds: highs (default), cbc, …")
    parser.add_argument("--time-limit", type=_positive, default=60.0, metavar="S", help="per variant; default 60 s")
    parser.add_argument("--gap", type=_fraction, default=1e-3, metavar="F", help="MILP gap to stop at; default 0.001")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the traffic draws; default 0")


def _add_ui(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("ui", parents=[common], help="plan, ask what if, compare and simulate in a browser")
    parser.add_argument("workspace", nargs="?", default=".", metavar="FOLDER", help="holds your specs; default: here")
    parser.add_argument("--port", type=_port, default=8501, metavar="N", help="default 8501")
    parser.add_argument("--open", action="store_true", help="open a browser")


def _add_check(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("check", parents=[common], help="run a plan for real and compare")
    parser.add_argument("plan", metavar="PLAN", help="plan file")
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "--on",
        choices=("vllm", "kernels", "simulator"),
        default="vllm",
        help="vllm (default): the plan's engines; kernels: its steps as kernels of torch; simulator: fresh draws",
    )
    level.add_argument("--endpoint", metavar="URL", help="a running service with the API of OpenAI instead")
    parser.add_argument(
        "-o", "--output", metavar="CHECK.json", help="write the result there (muxplan calibrate reads it)"
    )
    parser.add_argument(
        "--tolerance", type=_fraction, default=0.2, metavar="F", help="allowed error of TPOT; default 0.2"
    )
    parser.add_argument(
        "--duration", type=_positive, metavar="S", help="seconds of a window; default 60, simulator: enough requests"
    )
    parser.add_argument("--windows", type=_count, metavar="N", help="windows or draws; default 1, simulator: 8")
    parser.add_argument("--seed", type=_seed, default=2, metavar="N", help="seed of the traffic; default 2")
    parser.add_argument("--workload", metavar="NAME", help="endpoint: the one it serves; simulator: that of the trace")
    parser.add_argument("--served-model", metavar="NAME", help="endpoint: the model's name there; default: the plan's")
    parser.add_argument("--rate", type=_positive, metavar="R", help="endpoint: send only so many requests a second")
    parser.add_argument("--trace", metavar="FILE", help="simulator: replay this trace instead of fresh draws")
    parser.add_argument("--node", metavar="NAME", help="vllm: start the groups of this node; default: the first")
    parser.add_argument(
        "--group", action="append", metavar="ID", help="start, or find at the endpoint, this group only (repeatable)"
    )
    parser.add_argument(
        "--remeasure", action="store_true", help="vllm: measure the steps again between the windows, and what they give"
    )
    parser.add_argument("--dummy-weights", action="store_true", help="config without weights: vLLM makes them up")
    kernels = parser.add_argument_group("on kernels")
    kernels.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default cuda")
    kernels.add_argument("--cores", type=_index, nargs="+", default=[0], metavar="N", help="with cpu; default core 0")
    kernels.add_argument("--kernels", metavar="DIR", help="tables of muxplan profile kernels; else measured first")
    kernels.add_argument("--interference", metavar="FILE", help="of muxplan profile interference, for shared GPUs")
    kernels.add_argument("--steps", type=_count, default=12, metavar="N", help="steps run for a group; default 12")
    kernels.add_argument("--time-limit", type=_positive, default=600.0, metavar="S", help="of measuring; default 600 s")
    _add_engine_options(parser)


def _add_calibrate(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("calibrate", parents=[common], help="correct plans and estimates by measurements")
    parser.add_argument("measured", metavar="RUNS.csv|CHECK.json", help="measured runs, or what muxplan check -o wrote")
    parser.add_argument("--plan", metavar="PLAN", help="with CHECK.json: the plan that was checked")
    parser.add_argument("--engine", default="vllm", help="with RUNS.csv: the engine that ran; default vllm")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="calibration file to write")
    parser.add_argument(
        "--profile",
        metavar="DEVICE.yaml",
        help="write the steps that check --remeasure measured there; the calibration is then on top of them",
    )


def _add_profile(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    profile = commands.add_parser("profile", help="measure what kernels and engines cost")
    kinds = profile.add_subparsers(dest="kind", metavar="KIND", required=True)
    parser = kinds.add_parser("import", parents=[common], help="make the kernel tables of one GPU from measured ones")
    parser.add_argument("source", choices=("aiconfigurator", "vidur", "csv"), help="whose tables")
    parser.add_argument("--system", required=True, metavar="GPU", help="catalogue name of a GPU, or a YAML file")
    parser.add_argument("--from", dest="source_path", required=True, metavar="PATH", help="wheel, folder or CSV file")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder to write; default kernels/GPU")
    parser.set_defaults(module="profile_import")
    parser = kinds.add_parser("terms", parents=[common], help="fit an engine's fixed times on many measured runs")
    parser.add_argument("runs", metavar="SAMPLE.csv", help="silicon_sample.csv of aiconfigurator-core (or .csv.gz)")
    parser.add_argument("--engine", default="vllm", help="engine file whose terms to fit anew; default vllm")
    parser.add_argument("-o", "--output", required=True, metavar="ENGINE.yaml", help="engine file to write")
    parser.set_defaults(module="profile_terms")
    parser = kinds.add_parser("engine", parents=[common], help="step times of models on this machine's engine")
    parser.add_argument("models", nargs="+", metavar="FOLDER", help="folders with config.json and weights")
    parser.add_argument("-o", "--output", required=True, metavar="DEVICE.yaml", help="device profile to write")
    parser.add_argument("--engine", default="vllm", help="engine file of the catalogue, or a path; default vllm")
    parser.add_argument("--gpu", help="catalogue name of this machine's GPU; default: measure what it is")
    parser.add_argument("--memory-gib", type=_positive, metavar="N", help="memory that a plan may use on a device")
    parser.add_argument("--price", type=_positive, metavar="USD", help="price of a device per hour")
    parser.add_argument("--devices", type=_index, nargs="+", default=[0], metavar="N", help="GPUs or cores; default 0")
    parser.add_argument("--batches", type=_count, nargs="+", default=[1, 2, 4, 8, 16], metavar="N")
    parser.add_argument("--prompts", type=_count, nargs="+", default=[32, 128, 512, 1024], metavar="TOKENS")
    parser.add_argument("--passes", type=_count, default=5, metavar="N", help="the median counts; default 5")
    parser.set_defaults(module="profile_engine")
    _add_engine_options(parser)
    _add_profile_kernels(kinds, common)


def _add_profile_kernels(kinds: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = kinds.add_parser("kernels", parents=[common], help="measure this machine's own kernels with torch")
    _add_torch_device(parser)
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of kernel tables to write")
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="MODEL", help="whose shapes; default: a few usual ones"
    )
    parser.add_argument("--tp", type=_count, nargs="+", default=[1], metavar="N", help="shapes of these tp; default 1")
    parser.add_argument("--quantization", nargs="+", default=[], metavar="Q", help="default: the models' own")
    parser.add_argument("--gpu", help="catalogue name or file of this GPU; default: measure what it is")
    parser.add_argument("--error", type=_fraction, default=0.05, metavar="F", help="stop at this error; default 0.05")
    parser.add_argument("--time-limit", type=_positive, default=1800.0, metavar="S", help="default 1800 s")
    parser.add_argument("--max-tokens", type=_count, metavar="N", help="of a step; default 8192 (cpu: 512)")
    parser.add_argument("--max-batch", type=_count, metavar="N", help="sequences; default 256 (cpu: 16)")
    parser.add_argument("--max-context", type=_count, metavar="N", help="of a sequence; default 16384 (cpu: 2048)")
    parser.set_defaults(module="profile_kernels")
    parser = kinds.add_parser("interference", parents=[common], help="how much kernels that share a device slow down")
    _add_torch_device(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="interference file to write")
    parser.add_argument(
        "--sharing",
        nargs="+",
        default=[],
        choices=("streams", "green_contexts", "mps", "cores"),
        help="default: streams; on a processor cores (the same one, and with two --cores two)",
    )
    parser.add_argument(
        "--shares",
        type=_share,
        nargs="+",
        default=[0.5, 0.25],
        metavar="F",
        help="SMs of one of a pair; default 0.5 0.25",
    )
    parser.add_argument("--window", type=_positive, default=1.0, metavar="S", help="seconds of a pair; default 1")
    parser.add_argument("--passes", type=_count, default=3, metavar="N", help="the median counts; default 3")
    parser.add_argument("--gpu", help="catalogue name or file of this GPU; default: measure what it is")
    parser.set_defaults(module="profile_interference")


def _add_torch_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", required=True, choices=("cuda", "cpu"), help="what to measure")
    parser.add_argument("--cores", type=_index, nargs="+", default=[0], metavar="N", help="with cpu; default core 0")
    _add_engine_python(parser)


def _add_tiny_model(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("tiny-model", parents=[common], help="make a small random model for a real engine")
    parser.add_argument("model", metavar="MODEL", help="whose shape to scale down: catalogue name or config.json")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="new folder")
    parser.add_argument("--layers", type=_count, default=8, metavar="N")
    parser.add_argument("--hidden", type=_count, default=512, metavar="N")
    parser.add_argument("--vocabulary", type=_count, default=4096, metavar="N")
    parser.add_argument("--max-length", type=_count, default=4096, metavar="TOKENS")
    _add_engine_python(parser)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    _add_engine_python(parser)
    parser.add_argument("--first-port", type=_port, default=8000, metavar="N", help="ports from here up; default 8000")
    parser.add_argument("--logs", default="engine-logs", metavar="DIR", help="logs of the engines; default engine-logs")


def _add_engine_python(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine-python", metavar="PATH", help="Python with vLLM; default .engine (make engine)")


def _add_catalogue(commands: "Commands[argparse.ArgumentParser]", common: argparse.ArgumentParser) -> None:
    parser = commands.add_parser("catalogue", parents=[common], help="known GPUs, models, engines and lengths")
    parser.add_argument("kind", choices=("gpus", "models", "engines", "lengths"))


COMMANDS = (
    _add_plan,
    _add_estimate,
    _add_simulate,
    _add_export,
    _add_explain,
    _add_diff,
    _add_sweep,
    _add_ui,
    _add_catalogue,
    _add_check,
    _add_calibrate,
    _add_profile,
    _add_tiny_model,
)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from error


def _index(text: str) -> int:
    value = _whole(text)
    if not 0 <= value < 1024:
        raise argparse.ArgumentTypeError(f"{text} is not the index of a device")
    return value


def _port(text: str) -> int:
    value = _whole(text)
    if not 1024 <= value <= 65_000:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 1024 to 65000")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _fraction(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _part(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def _share(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _count(text: str) -> int:
    value = _whole(text)
    if not 1 <= value <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text} is not a count of at least 1")
    return value


def _seed(text: str) -> int:
    value = _whole(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not a seed from 0 to 4294967295")
    return value


if __name__ == "__main__":
    sys.exit(main())
