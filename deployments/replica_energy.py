"""What the GPUs of a decoder replica use. CPUs are left out: a package's counter says nothing of
which process it worked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ray

from deployments.metrics.energy import GpuEnergy


def joules_of_replica() -> Callable[[], float]:
    """A counter of the GPUs that Ray gave this replica, in joules; 0.0 where there is none."""
    gpus = [f"gpu{number}" for number in ray.get_gpu_ids()] if ray.is_initialized() else []
    if not gpus:
        return lambda: 0.0
    given = float(ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0))
    return counter(GpuEnergy().joules, gpus, given)


def counter(
    joules: Callable[[], Mapping[str, float]], gpus: Sequence[str], given: float
) -> Callable[[], float]:
    """Of these GPUs together, times the share of them that was given: replicas that share a GPU
    share what it uses."""
    if not gpus or not set(gpus) <= joules().keys():
        return lambda: 0.0
    share = given / len(gpus)

    def used() -> float:
        found = joules()
        return share * sum(found.get(gpu, 0.0) for gpu in gpus)

    return used
