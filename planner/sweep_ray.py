"""A sweep over a Ray cluster. The folder of the spec, with the files it names, must be seen by every node."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.sweep import Row, Sweep, plan_variant
from planner.sweep_run import POLL_S, Cancelled, SweepError


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """A runner: one CPU of a Ray cluster for each variant. `address` None: RAY_ADDRESS, else a local cluster."""

    address: str | None

    def __call__(self, sweep: Sweep, indices: Sequence[int], cancelled: Cancelled) -> Iterator[tuple[int, Row]]:
        """(number, row) of each variant as it finishes. SweepError when Ray is not there or a task dies."""
        try:
            import ray
        except ImportError as error:
            raise SweepError("Ray is not installed here: pip install 'muxplan[ray]'.") from error
        ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        try:
            loaded = ray.put(sweep.loaded)
            plan = ray.remote(num_cpus=1)(plan_variant)
            waiting = {plan.remote(loaded, sweep.variants[i], sweep.options): i for i in indices}
            while waiting and not cancelled():
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=POLL_S)
                for reference in done:
                    yield waiting.pop(reference), ray.get(reference)
        except ray.exceptions.RayError as error:
            raise SweepError(f"the Ray cluster failed ({type(error).__name__}): what is finished is kept.") from error
        finally:
            ray.shutdown()
