"""Logs of our own code as lines of JSON, each with the job or request that it belongs to."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from jobs.log_context import JOB, REQUEST

OURS = ("serve_app", "deployments", "dispatch", "autoscaling", "engine", "jobs", "ray.serve")
"""Loggers. Serve's own is among them: our replicas log through it, too."""
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest was given as `extra`."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """level: of the lines that are written, such as INFO. None leaves logging as Serve has it."""

    level: str | None = None


AS_SERVE = LogSettings()


class JsonLines(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, part, message; job and request where
    they are known; error with its traceback; and what was given as `extra`."""

    def __init__(self, part: str) -> None:
        """part: of the service, such as dispatcher."""
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "part": self._part,
            "message": record.getMessage(),
            "job": JOB.get(),
            "request": REQUEST.get(),
            **{name: value for name, value in vars(record).items() if name not in _PLAIN},
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        known = {name: value for name, value in said.items() if value is not None}
        return json.dumps(known, default=str, ensure_ascii=False)


def install_logs(settings: LogSettings, part: str, stream: TextIO = sys.stderr) -> None:
    """In this process, in place of what its loggers had. Ray collects what replicas write there."""
    if settings.level is None:
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines(part))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(settings.level)
        logger.propagate = False
