"""The metrics of this process on its node of the Ray cluster."""

from __future__ import annotations

from functools import cache
from typing import Any

import ray
from ray._private.worker import global_worker

from deployments.metrics.catalogue import PROCESSES, Part
from deployments.metrics.process import MetricsPlace, metrics_at
from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import ScalingCounts
from deployments.metrics.settings import MetricsSettings

FOLDER = "meltproof_metrics"


@cache
def metrics_of_node(settings: MetricsSettings) -> Metrics:
    """Once a process. By the address, because nodes of one machine may share a session directory;
    by the port, because lanes may have several."""
    if not settings.enabled:
        return Metrics()
    address = ray.util.get_node_ip_address()
    folder = settings.directory or f"{global_worker.node.get_session_dir_path()}/{FOLDER}"
    directory = f"{folder}/{address}-{settings.port}"
    return metrics_at(MetricsPlace(directory, settings.host or address, settings.port))


class ScalingMetrics(ScalingCounts):
    """Of a process that has the policies: made anew where it is unpickled."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._settings = settings
        super().__init__(metrics_of_node(settings))

    def __reduce__(self) -> tuple[Any, ...]:
        return scaling_metrics, (self._settings,)


def scaling_metrics(settings: MetricsSettings) -> ScalingMetrics:
    """In the controller."""
    metrics_of_node(settings).show(PROCESSES, Part.CONTROLLER, value=1.0)
    return ScalingMetrics(settings)
