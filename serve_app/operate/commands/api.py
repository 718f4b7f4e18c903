"""What a command-line client says to the service, over HTTP. It uses what any client may.

ServiceError
└── Unreachable   nothing answers at that address
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from serve_app.operate.http_proxies import UnusableEnvironment, http_client, without_password

BASE_URL = "http://127.0.0.1:8000"
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 45.0
"""A stream that says nothing for longer than several keep-alives is dead: connect again."""
RECONNECTS = 8
LONGEST_PAUSE_SECONDS = 5.0

Body = dict[str, Any]


class ServiceError(Exception):
    """The service said no; the message is for the person at the terminal. code: of the error."""

    exit_code = 1

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(ServiceError):
    """Nothing answers."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: Body


@dataclass(slots=True)
class Service:
    """A service at an address, with a key. Use it in a `with`: it holds connections."""

    base_url: str
    key: str = field(repr=False)
    _http: httpx.Client = field(init=False, repr=False)
    _shown: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/").removesuffix("/v1")
        self._shown = without_password(self.base_url)
        try:
            self._http = http_client(
                self.base_url,
                base_url=self.base_url,
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            )
        except UnusableEnvironment as error:
            raise Unreachable(f"{self._shown} is not asked: {error}.") from None
        except (httpx.InvalidURL, ValueError):
            raise self._no_address() from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """ServiceError in place of what follows from an answer that Meltproof never gives."""
        self._http.close()
        if kind is not None and issubclass(kind, KeyError | TypeError | ValueError):
            raise self._another()

    def get(self, path: str) -> Body:
        """The JSON under a path. Raises ServiceError."""
        return self._body(self._send("GET", path))

    def submit(self, body: Body) -> Body:
        """A job, durable once this returns. Raises ServiceError."""
        headers = {"Prefer": "respond-async"}
        return self._body(self._send("POST", "/v1/images/generations", body, headers))

    def cancel(self, job_id: str) -> None:
        """Ask for the end of a job. Raises ServiceError."""
        self._send("DELETE", f"/v1/jobs/{job_id}")

    def image(self, job_id: str, index: int) -> bytes:
        """A finished picture's file. Raises ServiceError."""
        return self._send("GET", f"/v1/jobs/{job_id}/images/{index}").content

    def events(self, job_id: str) -> Iterator[Event]:
        """What happens to a job until it ends. A lost connection is taken up where it broke.
        Raises ServiceError once it cannot be taken up any more."""
        last, lost = "", 0
        while True:
            try:
                for event in self._stream(job_id, last):
                    last, lost = event.id or last, 0
                    yield event
            except httpx.HTTPError as error:
                lost += 1
                if lost > RECONNECTS:
                    raise self._unreachable(error) from None
                time.sleep(min(LONGEST_PAUSE_SECONDS, 0.25 * 2**lost))
            else:
                return

    def _stream(self, job_id: str, last: str) -> Iterator[Event]:
        headers = {"Last-Event-ID": last} if last else {}
        path = f"/v1/jobs/{job_id}/events"
        with self._http.stream("GET", path, headers=headers) as answer:
            if answer.is_error:
                answer.read()
                raise ServiceError(_problem(answer))
            yield from read_events(answer.iter_lines())

    def _send(
        self, method: str, path: str, body: Body | None = None, headers: Body | None = None
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body, headers=headers)
        except (httpx.InvalidURL, ValueError):  # a host's name may be none that can be asked for
            raise self._no_address() from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            raise ServiceError(_problem(answer), _code(answer))
        return answer

    def _body(self, answer: httpx.Response) -> Body:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise self._another()
        return body

    def _another(self) -> ServiceError:
        return ServiceError(
            f"What answers at {self._shown} is not Meltproof, or another version of it."
        )

    def _no_address(self) -> Unreachable:
        return Unreachable(f"{self._shown!r} is not an address (--base-url)")

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        return Unreachable(
            f"Nothing answers at {self._shown} ({error or type(error).__name__}).\n"
            "Start it with: meltproof run configs/laptop.yaml   (or name it with --base-url)"
        )


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events from lines without their ends; comments are skipped."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif not line and "data" in fields:
            data = json.loads(fields["data"])
            yield Event(fields.get("event", "message"), fields.get("id", ""), data)
            fields = {}


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the service is, and with which key."""
    parser.add_argument(
        "--base-url", default=BASE_URL, metavar="URL", help=f"the service (default {BASE_URL})"
    )
    parser.add_argument(
        "--key", type=api_key, default="sk-local", help="the API key (default sk-local)"
    )


def api_key(text: str) -> str:
    """An argument's type: what an Authorization header can carry. The key is not repeated."""
    if re.fullmatch(r"[\x21-\x7e]+", text):
        return text
    if re.fullmatch(r"[\x21-\x7e]+\s+", text):
        why = "it ends with a blank or the end of a line, perhaps of the file that it was read from"
    else:
        why = "it must be ASCII letters, digits and signs, without blanks"
    raise argparse.ArgumentTypeError(f"this is no API key: {why}")


def _code(answer: httpx.Response) -> str | None:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _problem(answer: httpx.Response) -> str:
    """The error envelope as one sentence."""
    try:
        error = answer.json()["error"]
        message, param = str(error["message"]), error.get("param")
    except (ValueError, KeyError, TypeError):
        url = without_password(str(answer.request.url))
        return f"{url} answered {answer.status_code} {answer.reason_phrase}"
    return f"{message} (field: {param})" if param and param not in message else message
