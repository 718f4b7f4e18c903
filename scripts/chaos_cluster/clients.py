"""Three programs of users, all at once, each in several threads: pictures waited for, jobs polled,
streams followed. They speak through the official SDK as it comes (two retries, no Idempotency-Key);
what it cannot hide from a program is a client error. They write down what they were told."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import threading
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from jobs.job import TERMINAL
from scripts.bench.workload import PROMPTS
from scripts.chaos.world import Log, World

PATIENCE_SECONDS = 180.0
"""Of one order; a program of a user is as patient as the SDK, which waits for ten minutes."""
POLL_SECONDS = 0.5
RECONNECT_SECONDS = 1.0
KEYS = {"sdk": "sk-sdk", "later": "sk-later", "stream": "sk-stream"}


@dataclass(slots=True)
class Attempts:
    """Every HTTP request that was sent, each retry by itself. failed: (when, what) of those that
    broke or were answered 5xx."""

    sent: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, wrong: str | None) -> None:
        """One request has its answer, or none."""
        with self._lock:
            self.sent += 1
            if wrong is not None:
                self.failed.append((time.time(), wrong))

    def failed_between(self, began: float, ended: float) -> int:
        """How many."""
        return sum(began <= at <= ended for at, _ in self.failed)


class Transport(httpx2.HTTPTransport):
    """Notes what becomes of each request."""

    def __init__(self, attempts: Attempts) -> None:
        super().__init__(limits=httpx2.Limits(max_keepalive_connections=8))
        self._attempts = attempts

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """See httpx2."""
        try:
            answer = super().handle_request(request)
        except httpx2.TransportError as error:
            self._attempts.note(f"{request.method} {request.url.path}: {error!r}")
            raise
        wrong = answer.status_code >= 500
        said = f"{request.method} {request.url.path}: {answer.status_code}"
        self._attempts.note(said if wrong else None)
        return answer


class ClientLoad:
    """Threads that order until `stop`. errors: (when, which program, what) of all that a program
    saw in place of its pictures. reconnected: streams that broke and were gone on with."""

    def __init__(self, world: World, url: str) -> None:
        self._world = world
        self._log: Log = world.log("told")
        self._url = url
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._draw = random.Random(0)
        self.attempts = Attempts()
        self.errors: list[tuple[float, str, str]] = []
        self.answered: Counter[str] = Counter()
        self.reconnected = 0

    def start(self, sdk: int, later: int, stream: int) -> None:
        """So many threads of each kind."""
        kinds: dict[str, tuple[int, Callable[[Program], None]]] = {
            "sdk": (sdk, self._draw_now), "later": (later, self._draw_later),
            "stream": (stream, self._follow_stream),
        }  # fmt: skip
        for kind, (count, work) in kinds.items():
            for _ in range(count):
                thread = threading.Thread(target=self._user, args=(kind, work), daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """Nothing new is begun; what was begun is seen to its end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            if thread.is_alive():
                self._err("all", "a client still waits")
        self._threads.clear()
        self._stopping.clear()

    def _user(self, kind: str, work: Callable[[Program], None]) -> None:
        program = Program(self._url, KEYS[kind], self.attempts)
        while not self._stopping.is_set():
            try:
                work(program)
                self.answered[kind] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, a user's program would see it
                self._err(kind, repr(error)[:300])
                time.sleep(RECONNECT_SECONDS)
        program.close()

    def _err(self, kind: str, what: str) -> None:
        self.errors.append((time.time(), kind, what))

    def _order(self, **more: Any) -> dict[str, Any]:
        """A wish; no two have the same seed."""
        number = next(self._numbers)
        return {
            "prompt": self._draw.choice(PROMPTS),
            "quality": self._draw.choice(("low", "medium", "high", "max")),
            "n": self._draw.choice((1, 1, 2)),
            "size": "256x256",
            "extra_body": {"seed": number * 100 + 1, **more},
        }

    def _draw_now(self, program: Program) -> None:
        order = self._order()
        answer = program.sdk.images.with_raw_response.generate(**order)
        job_id = answer.headers["x-job-id"]
        pictures = [b64decode(item.b64_json or "") for item in answer.parse().data or ()]
        self._accepted(job_id, order)
        self._log.note("drawn", key=job_id, job=job_id, digests=[_digest(p) for p in pictures])

    def _draw_later(self, program: Program) -> None:
        order = self._order()
        headers = {"prefer": "respond-async"}
        answer = program.sdk.images.with_raw_response.generate(**order, extra_headers=headers)
        job = json.loads(answer.text)
        self._accepted(job["id"], order)
        until = time.monotonic() + PATIENCE_SECONDS
        while job["state"] not in TERMINAL:
            if time.monotonic() > until:
                raise TimeoutError(f"job {job['id']} is still {job['state']}")
            time.sleep(POLL_SECONDS)
            found = program.sdk.get(f"/jobs/{job['id']}", cast_to=httpx2.Response)
            job = found.json()
        self._ended(job)

    def _follow_stream(self, program: Program) -> None:
        """As the SDK reads it; one that breaks is gone on with at the job's own events."""
        order = self._order(partial_images=3)
        answer = program.sdk.images.with_raw_response.generate(**order, stream=True)
        job_id, completed = answer.headers["x-job-id"], 0
        self._accepted(job_id, order)
        try:
            for event in answer.parse():
                completed += event.type == "image_generation.completed"
        except (openai.APIConnectionError, httpx2.TransportError):
            self.reconnected += 1
        self._ended(program.job(job_id) if completed == order["n"] else program.follow(job_id))

    def _accepted(self, job_id: str, order: dict[str, Any]) -> None:
        seed = order["extra_body"]["seed"]
        self._log.note("accepted", job=job_id, n=order["n"], key=f"seed-{seed}")

    def _ended(self, job: dict[str, Any]) -> None:
        images = [image["state"] for image in job["images"]]
        self._log.note("ended", job=job["id"], state=job["state"], images=images)
        if job["state"] != "succeeded":
            raise RuntimeError(f"job {job['id']} ended {job['state']}: {job.get('error')}")


class Program:
    """What one user's program holds: the SDK, and plain HTTP for what the SDK has no verb for."""

    def __init__(self, url: str, key: str, attempts: Attempts) -> None:
        self._transport = Transport(attempts)
        self.sdk = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key=key,
            http_client=openai.DefaultHttpxClient(transport=self._transport, trust_env=False),
        )
        self._http = httpx2.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(10.0),  # an event or a comment comes every three seconds
            transport=self._transport,
            trust_env=False,
        )

    def close(self) -> None:
        """End its connections."""
        self.sdk.close()
        self._http.close()

    def job(self, job_id: str) -> dict[str, Any]:
        """As it is now."""
        found: dict[str, Any] = self.sdk.get(f"/jobs/{job_id}", cast_to=httpx2.Response).json()
        return found

    def follow(self, job_id: str) -> dict[str, Any]:
        """To its end, as EventSource does it: reconnected after the last event's id whenever the
        stream breaks or is refused with 5xx, a second later. RuntimeError for a preview that comes
        twice, and for 4xx."""
        until, last_id = time.monotonic() + PATIENCE_SECONDS, ""
        newest: dict[int, int] = {}
        while time.monotonic() < until:
            try:
                headers = {"last-event-id": last_id} if last_id else {}
                path = f"/v1/jobs/{job_id}/events"
                with self._http.stream("GET", path, headers=headers) as answer:
                    if 400 <= answer.status_code < 500:
                        raise RuntimeError(f"{path}: {answer.status_code} {answer.read()!r}")
                    for name, event_id, data in _events(answer):
                        last_id = event_id or last_id
                        if name == "preview":
                            _check_news(newest, event_id)
                        elif name == "job" and data["state"] in TERMINAL:
                            return dict(data)
            except httpx2.TransportError:
                pass
            time.sleep(RECONNECT_SECONDS)
        raise TimeoutError(f"job {job_id} did not end within {PATIENCE_SECONDS:.0f} s")


def _events(answer: httpx2.Response) -> Any:
    """(name, id, data) of each event."""
    if answer.status_code != 200:
        return
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
        elif "event" in fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
            fields = {}
        else:
            fields = {}


def _check_news(newest: dict[int, int], event_id: str) -> None:
    now = {int(i): int(p) for i, p in (pair.split(".") for pair in event_id.split(","))}
    if all(now[index] <= newest.get(index, 0) for index in now):
        raise RuntimeError(f"preview {event_id} came again after {newest}")
    newest.update(now)


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()
