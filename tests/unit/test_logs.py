"""Log lines as JSON, with what they belong to."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from deployments.logs import AS_SERVE, OURS, LogSettings, install_logs
from jobs.log_context import JOB, REQUEST


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged; every logger is as before at the end."""
    before = {}
    for name in OURS:
        logger = logging.getLogger(name)
        before[logger] = (logger.handlers[:], logger.level, logger.propagate)
    stream = io.StringIO()
    install_logs(LogSettings("INFO"), "dispatcher", stream)
    yield stream
    for logger, (handlers, level, propagate) in before.items():
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


def read(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_lines_of_tasks_know_the_job_that_their_task_was_started_for(
    lines: io.StringIO,
) -> None:
    async def work(name: str) -> None:
        await asyncio.sleep(0)
        logging.getLogger("dispatch.leases").info("at work", extra={"pass_no": 3})

    tasks = []
    for name in ("job-a", "job-b"):
        JOB.set(name)
        tasks.append(asyncio.create_task(work(name)))
    JOB.set(None)
    await asyncio.gather(*tasks)
    said = read(lines)
    assert [line["job"] for line in said] == ["job-a", "job-b"]
    assert {line["pass_no"] for line in said} == {3}
    assert {line["part"] for line in said} == {"dispatcher"}


def test_a_line_is_one_object_whatever_is_in_it(lines: io.StringIO) -> None:
    REQUEST.set("req_1")
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("serve_app.gateway").exception('request "%s" failed\n', "x\ny")
    logging.getLogger("jobs").debug("below the level")
    (line,) = read(lines)
    assert line["message"] == 'request "x\ny" failed\n'
    assert line["request"] == "req_1"
    assert "ValueError: a\nb" in str(line["error"])
    assert str(line["time"]).endswith("+00:00")
    REQUEST.set(None)


def test_without_a_level_logging_stays_as_it_is() -> None:
    before = logging.getLogger("dispatch").handlers[:]
    install_logs(AS_SERVE, "dispatcher")
    assert logging.getLogger("dispatch").handlers == before
