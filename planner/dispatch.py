"""How the steps of a deployment are filled: its engine's rules, and what this engine was launched with."""

from planner.simulate_types import Dispatch
from profiles.engines import Engine
from profiles.models import ModelArchitecture


def dispatch_of(
    engine: Engine,
    model: ModelArchitecture,
    *,
    poll_steps: int = 1,
    wait_steps: int = 0,
    wait_fraction: float = 1.0,
) -> Dispatch:
    """The dispatch of a model on an engine; an encoder's prompts are never cut, since all of it attends to all."""
    return Dispatch(
        prompts_apart=engine.prompts_apart,
        whole_prompts=model.encoder_only or not engine.chunked_prefill,
        reserves_output=engine.reserves_output,
        poll_steps=poll_steps,
        wait_steps=wait_steps,
        wait_fraction=wait_fraction,
    )
