"""Ask again without paying again: the same Idempotency-Key and body are the same job for a day,
whatever broke in between. The official clients' own retries find their job without one."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path

import httpx

order = {"prompt": "a birthday cake", "seed": 7}
headers = {"Authorization": "Bearer sk-local", "Idempotency-Key": str(uuid.uuid4())}


def ask(timeout_seconds: float) -> httpx.Response:
    """The order, once more."""
    return httpx.post(
        "http://127.0.0.1:8000/v1/images/generations",
        json=order,
        headers=headers,
        timeout=timeout_seconds,
    )


try:
    ask(0.05)  # a client that leaves at once
except httpx.TimeoutException:
    print("no answer; asking again")
answers = [ask(600).raise_for_status() for _ in range(2)]
jobs = {answer.headers["x-job-id"] for answer in answers}
assert len(jobs) == 1, "one job, however often we ask"
Path("cake.png").write_bytes(base64.b64decode(answers[0].json()["data"][0]["b64_json"]))
print(f"cake.png, job {jobs.pop()}")
