"""One page of metrics for a node, served by whichever of its processes has the port."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from functools import cached_property

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from deployments.metrics.catalogue import ENERGY_JOULES
from deployments.metrics.energy import CpuEnergy, GpuEnergy
from deployments.metrics.shared_values import SharedValues

log = logging.getLogger("ray.serve")

RETRY_SECONDS = 3.0
"""Between two tries to take the port over from a process that may have ended."""


class NodeCollector(Collector):
    """Everything that the node's processes have counted, and its energy."""

    def __init__(self, values: SharedValues) -> None:
        self._values = values

    @cached_property
    def _counters(self) -> tuple[CpuEnergy, GpuEnergy]:
        """Opened by the process that is asked, and by no other."""
        return CpuEnergy(), GpuEnergy()

    def collect(self) -> Iterable[Family]:
        """As they are now."""
        files = [str(file) for file in self._values.live_files()]
        yield from MultiProcessCollector.merge(files)
        used: Mapping[str, float] = {}
        for counters in self._counters:
            used = {**used, **counters.joules()}
        if used:
            names = [label.name for label in ENERGY_JOULES.labels]
            family = CounterMetricFamily(ENERGY_JOULES.name, ENERGY_JOULES.help, labels=names)
            for device, joules in used.items():
                family.add_metric([device], joules)
            yield family


class Exporter:
    """Serves http://host:port/metrics as soon as the port is free, and as long as this process
    lives. On a thread of its own."""

    def __init__(self, values: SharedValues, host: str, port: int) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(values))
        self._address = host, port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the port go."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        host, port = self._address
        while not self._stopped.is_set():
            try:
                server, thread = start_http_server(port, host, self._registry)
            except OSError as error:
                log.debug("%s:%s is served by another process: %s", host, port, error)
                self._stopped.wait(RETRY_SECONDS)
                continue
            log.info("metrics of this node are at http://%s:%s/metrics", host, port)
            self._stopped.wait()
            server.shutdown()
            server.server_close()
            thread.join()
