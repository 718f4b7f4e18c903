"""What the lines of a log belong to: set where work begins, and so known to all tasks below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

JOB: ContextVar[str | None] = ContextVar("job", default=None)
"""Id of the job that is worked on."""
REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""Id of the HTTP request that is answered."""


@contextmanager
def of_job(job_id: str) -> Iterator[None]:
    """Tasks that are created inside belong to that job."""
    token = JOB.set(job_id)
    try:
        yield
    finally:
        JOB.reset(token)
