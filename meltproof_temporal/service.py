"""The part of Meltproof's HTTP API that activities need."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from meltproof_temporal.failures import refused, unreachable

SECONDS = httpx.Timeout(60.0)
"""For an answer, or for the next event: streams carry a sign of life every few seconds."""
MOST_IMAGES = 10
_NO_PIXELS = ",".join(f"{index}.99999" for index in range(MOST_IMAGES))
"""A Last-Event-ID after every preview: heartbeats name previews and need no pixels of them."""
Json = dict[str, Any]


class Service:
    """One lane of a service. url: what stands before `/v1`. Raises ApplicationError throughout."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self._url,
            headers={"authorization": f"Bearer {key}"},
            timeout=SECONDS,
            # As many streams as the worker runs activities; a pool with a limit would stop them.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    def picture_url(self, job_id: str, index: int) -> str:
        """Where a picture is read with the key; unlike the links in answers it does not expire."""
        return f"{self._url}/v1/jobs/{job_id}/images/{index}"

    async def order(self, path: str, body: Mapping[str, Any], idempotency_key: str) -> Json:
        """The job of this order: a new one, or the one that its key finds."""
        headers = {"prefer": "respond-async", "idempotency-key": idempotency_key}
        return await self._json("POST", path, json=body, headers=headers)

    async def get(self, path: str) -> Json:
        """What stands there."""
        return await self._json("GET", path)

    async def post(self, path: str) -> Json:
        """What came of it."""
        return await self._json("POST", path)

    async def delete(self, path: str) -> Json:
        """What was there."""
        return await self._json("DELETE", path)

    async def upload(self, lines: bytes) -> str:
        """The id of a file of a batch's lines."""
        form = {"data": {"purpose": "batch"}, "files": {"file": ("lines.jsonl", lines)}}
        return str((await self._json("POST", "/v1/files", **form))["id"])

    async def cancel(self, job_id: str) -> Json:
        """The job, which is cancelled unless it had ended."""
        return await self._json("DELETE", f"/v1/jobs/{job_id}")

    async def states(self, job_id: str) -> AsyncGenerator[Json]:
        """The job as it is, and after every change, up to its end or that of the connection."""
        path, headers = f"/v1/jobs/{job_id}/events", {"last-event-id": _NO_PIXELS}
        with _failures():
            async with self._http.stream("GET", path, headers=headers) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _refusal(answer)
                event = ""
                async for line in answer.aiter_lines():
                    name, _, value = line.partition(":")
                    if name == "event":
                        event = value.strip()
                    elif name == "data" and event == "job":
                        yield json.loads(value)

    async def _json(self, method: str, path: str, **options: Any) -> Json:
        with _failures():
            answer = await self._http.request(method, path, **options)
        if not answer.is_success:
            raise _refusal(answer)
        body: Json = answer.json()
        return body


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise unreachable(error) from error


def _refusal(answer: httpx.Response) -> Exception:
    try:
        body = answer.json()
    except ValueError:  # of a proxy in between
        body = None
    return refused(answer.status_code, answer.headers, body, datetime.now(UTC))
