"""The metrics of this process: its shared values and its try for the node's port, once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deployments.metrics.exporter import Exporter
from deployments.metrics.recorder import Metrics
from deployments.metrics.shared_values import SharedValues

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class MetricsPlace:
    """Where the processes of one node keep their values, and where they are served."""

    directory: str
    host: str
    port: int


@cache
def metrics_at(place: MetricsPlace) -> Metrics:
    """Counts nothing where the directory cannot be written: the service goes on without."""
    try:
        values = SharedValues(Path(place.directory))
    except OSError as error:
        log.warning("no metrics: %s: %s", place.directory, error)
        return Metrics()
    Exporter(values, place.host, place.port)
    return Metrics(values)
