"""The section `logs`: how our own code logs."""

from __future__ import annotations

from typing import Literal

from deployments.logs import LogSettings
from serve_app.config.sections import Section


class LogsSection(Section):
    """As Serve has it, unless `format` is json. Prompts are logged only by `safety.log_prompts`."""

    format: Literal["serve", "json"] = "serve"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Of json lines."""

    def settings(self) -> LogSettings:
        """As replicas take it."""
        return LogSettings(self.level if self.format == "json" else None)
