"""`muxplan tiny-model`: a small model with random weights, shaped like a real one, for an engine on this machine."""

import argparse
import json
import sys
from pathlib import Path

from planner.runtime.environment import find_environment
from planner.runtime.tiny_model import make_tiny_model, tiny_config
from profiles.models import load_model


def run(arguments: argparse.Namespace) -> int:
    """Make it; 0 when it is there."""
    folder = Path(arguments.output)
    config = tiny_config(
        load_model(arguments.model),
        layers=arguments.layers,
        hidden=arguments.hidden,
        vocabulary=arguments.vocabulary,
        length=arguments.max_length,
    )
    make_tiny_model(config, folder, find_environment(arguments.engine_python))
    if arguments.json:
        sys.stdout.write(json.dumps({"folder": str(folder), "config": config}, indent=2) + "\n")
    else:
        sys.stdout.write(f"{folder}: {arguments.layers} layers of {arguments.hidden}, random weights\n")
    return 0
