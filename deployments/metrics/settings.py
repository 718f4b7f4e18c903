"""What is configured of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

PORT = 9464


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """The same for all nodes. host: None for the node's own address. directory: None for the
    session directory of the node."""

    enabled: bool = True
    port: int = PORT
    host: str | None = None
    directory: str | None = None


OFF = MetricsSettings(enabled=False)
