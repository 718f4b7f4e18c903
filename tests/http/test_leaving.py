"""Requests that wait at a gateway which is about to end: they are told to come back, and their jobs
keep their places."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from jobs.job import JobState
from serve_app.gateway import let_go
from tests.stages.http_stage import config, newest, stage, wait_until


def test_who_waits_at_a_gateway_that_ends_is_told_to_come_back(tmp_path: Path) -> None:
    with stage(tmp_path, config()) as running, ThreadPoolExecutor(3) as threads:
        running.worker.pause()
        orders = f"{running.url}/v1/images/generations"

        def order(**body: object) -> httpx.Response:
            return httpx.post(orders, json=body, headers=running.headers, timeout=60)

        waiting = threads.submit(order, prompt="waits")
        wait_until(lambda: len(running.jobs()) == 1, "it is accepted")
        streaming = threads.submit(order, prompt="streams", stream=True)
        wait_until(lambda: len(running.jobs()) == 2, "it is accepted")
        events = f"{running.url}/v1/jobs/{newest(running).id}/events"
        following = threads.submit(httpx.get, events, headers=running.headers, timeout=60)
        watch = running.app.state.app_state.watch
        wait_until(lambda: len(watch._all()) == 3, "all three wait")

        let_go(running.app)
        got = waiting.result()
        assert (got.status_code, got.json()["error"]["code"]) == (429, "still_queued")
        assert (got.headers["retry-after"], got.headers["x-should-retry"]) == ("1", "true")
        assert [line for line in streaming.result().text.splitlines() if "event:" in line] == [
            "event: error"
        ]
        assert "still_queued" in streaming.result().text
        assert following.result().text.startswith("event: job"), "and then it just ends"
        assert {job.state for job in running.jobs()} == {JobState.QUEUED}

        before = {job.id for job in running.jobs()}
        assert order(prompt="waits").json()["error"]["code"] == "still_queued"
        assert len(running.jobs()) == 3, "without a sign that it is a retry it is a new order"
        retried = httpx.post(
            orders,
            json={"prompt": "waits"},
            headers={**running.headers, "x-stainless-retry-count": "1"},
            timeout=60,
        )
        assert retried.json()["error"]["code"] == "still_queued"
        assert before < {job.id for job in running.jobs()}
        assert len(running.jobs()) == 3
