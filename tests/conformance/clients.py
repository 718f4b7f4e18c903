"""One call through three clients: the official Python SDK, the official Node SDK, and plain HTTP.
Each gives the same Answer, so that one check serves them all."""

from __future__ import annotations

import base64
import inspect
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Protocol, Self

import httpx
import openai

from serve_app.config.cluster import environment
from serve_app.operate.http_proxies import no_proxy

NODE = Path(__file__).parent / "node"
SECONDS = 120.0
OWN_TYPES = {"content_provenance_checks.create"}
"""Lists there hold entries of a type of ours, which the SDK hands on and its types do not know."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as a client sends it."""

    name: str
    data: bytes
    media_type: str = "image/png"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. body: of plain JSON; data: of what is no JSON. events: of a stream. error:
    what stands under `error`, in the answer or in the stream; its status is then that of the HTTP
    answer. headers: lower case. kind: the class that the SDK raised."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()
    error: Mapping[str, Any] | None = None
    data: bytes = b""
    kind: str = ""


class Client(Protocol):
    """A way to talk to one server as one tenant."""

    name: str

    def call(
        self,
        method: str,
        *ids: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """`images.generate`, `files.retrieve`, ... with the ids of its path. key: another one."""
        ...

    def __hash__(self) -> int: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class PythonSdk:
    """The package `openai` from PyPI. Fields that it does not know go into `extra_body`."""

    name = "python"

    def __init__(self, base_url: str, key: str) -> None:
        http = openai.DefaultHttpxClient(trust_env=False)  # the service is on this machine
        self._client = openai.OpenAI(
            base_url=base_url, api_key=key, max_retries=0, timeout=SECONDS, http_client=http
        )

    def call(
        self,
        method: str,
        *ids: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """See Client."""
        client = self._client.with_options(api_key=key) if key else self._client
        *groups, verb = method.split(".")
        owner: Any = reduce(getattr, groups, client)
        raw = getattr(owner.with_raw_response, verb)
        known = inspect.signature(getattr(owner, verb)).parameters
        args = {name: _tuples(value) for name, value in fields.items() if name in known}
        extra = {name: value for name, value in fields.items() if name not in known}
        events: list[Mapping[str, Any]] = []
        got: Mapping[str, str] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # we know that it is retired
                answer = raw(*ids, **args, extra_body=extra or None, extra_headers=headers)
            got = dict(answer.headers)
            parsed = answer.parse()
            if isinstance(parsed, openai.Stream):
                events.extend(event.to_dict() for event in parsed)
                return Answer(200, got, events=tuple(events))
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {"message": error.message}
            found = dict(error.response.headers)
            return Answer(error.status_code, found, error=body, kind=type(error).__name__)
        except openai.APIError as error:
            if not isinstance(error.body, dict):
                raise
            return Answer(200, got, events=tuple(events), error=error.body, kind="APIError")
        if isinstance(parsed, openai.BaseModel):
            told = parsed.to_dict(warnings=method not in OWN_TYPES)
            return Answer(answer.http_response.status_code, got, told)
        return Answer(answer.http_response.status_code, got, data=answer.http_response.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _tuples(value: Any) -> Any:
    if isinstance(value, Upload):
        return (value.name, value.data, value.media_type)
    return [_tuples(one) for one in value] if isinstance(value, list) else value


class NodeSdk:
    """The package `openai` from npm, in a Node process of its own (node/bridge.mjs)."""

    name = "node"

    def __init__(self, base_url: str, key: str) -> None:
        self._process = subprocess.Popen(
            ["node", str(NODE / "bridge.mjs"), base_url, key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment(), **no_proxy(environment())},
        )

    def call(
        self,
        method: str,
        *ids: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """See Client."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"method": method, "ids": ids, "key": key, "headers": headers, "fields": fields}
        self._process.stdin.write(json.dumps(order, default=_as_json) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the Node client ended at {method}")
        said = json.loads(line)
        said["data"] = base64.b64decode(said.get("data", ""))
        said["events"] = tuple(said.get("events", ()))
        return Answer(**said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    @staticmethod
    def missing() -> str | None:
        """Why it cannot run here, or None."""
        if shutil.which("node") is None:
            return "Node is not installed (apt-get install nodejs npm)"
        if not (NODE / "node_modules" / "openai").is_dir():
            return "the Node SDK is not installed (npm ci --prefix tests/conformance/node)"
        return None


def _as_json(value: Any) -> Any:
    assert isinstance(value, Upload)
    data = base64.b64encode(value.data).decode()
    return {"$upload": {"name": value.name, "data": data, "type": value.media_type}}


ROUTES = {
    "images.generate": ("POST", "/images/generations"),
    "images.edit": ("POST", "/images/edits"),
    "images.create_variation": ("POST", "/images/variations"),
    "files.create": ("POST", "/files"),
    "files.list": ("GET", "/files"),
    "files.retrieve": ("GET", "/files/{}"),
    "files.content": ("GET", "/files/{}/content"),
    "files.delete": ("DELETE", "/files/{}"),
    "responses.create": ("POST", "/responses"),
    "responses.retrieve": ("GET", "/responses/{}"),
    "responses.cancel": ("POST", "/responses/{}/cancel"),
    "responses.delete": ("DELETE", "/responses/{}"),
    "responses.input_items.list": ("GET", "/responses/{}/input_items"),
    "batches.create": ("POST", "/batches"),
    "batches.list": ("GET", "/batches"),
    "batches.retrieve": ("GET", "/batches/{}"),
    "batches.cancel": ("POST", "/batches/{}/cancel"),
    "content_provenance_checks.create": ("POST", "/content_provenance_checks"),
    "webhooks.create": ("POST", "/webhook_endpoints"),
    "webhooks.list": ("GET", "/webhook_endpoints"),
    "webhooks.retrieve": ("GET", "/webhook_endpoints/{}"),
    "webhooks.update": ("POST", "/webhook_endpoints/{}"),
    "webhooks.delete": ("DELETE", "/webhook_endpoints/{}"),
    "webhooks.rotate_secret": ("POST", "/webhook_endpoints/{}/rotate_secret"),
    "webhooks.test": ("POST", "/webhook_endpoints/{}/test"),
    "models.list": ("GET", "/models"),
    "models.retrieve": ("GET", "/models/{}"),
    "models.delete": ("DELETE", "/models/{}"),
}


class PlainHttp:
    """No SDK: JSON, or multipart where a field is a file. `GET /jobs` is a method, too."""

    name = "http"

    def __init__(self, base_url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {key}"},
            timeout=SECONDS,
            trust_env=False,
        )

    def call(
        self,
        method: str,
        *ids: str,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """See Client."""
        verb, path = ROUTES[method] if method in ROUTES else method.split(" ", 1)
        sent = dict(headers or {})
        if key:
            sent["authorization"] = f"Bearer {key}"
        body = {} if verb == "GET" else _body(fields)
        query = fields if verb == "GET" else None
        got = self._client.request(verb, path.format(*ids), params=query, headers=sent, **body)
        return read(got)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _body(fields: Mapping[str, Any]) -> dict[str, Any]:
    uploads = [(name, one) for name, value in fields.items() for one in _uploads(value)]
    if not uploads:
        return {"json": fields} if fields else {}
    files = [(name, (one.name, one.data, one.media_type)) for name, one in uploads]
    words = {name: value for name, value in fields.items() if not _uploads(value)}
    return {"files": files, "data": dict(_form(words))}


def _form(fields: Mapping[str, Any], name: str = "{}") -> Iterator[tuple[str, str]]:
    """As the SDKs write them: an object's fields in brackets after its name."""
    for key, value in fields.items():
        path = name.format(key)
        if isinstance(value, Mapping):
            yield from _form(value, f"{path}[{{}}]")
        elif value is not None:
            yield path, json.dumps(value) if isinstance(value, bool) else str(value)


def _uploads(value: Any) -> list[Upload]:
    if isinstance(value, Upload):
        return [value]
    return value if isinstance(value, list) and value and isinstance(value[0], Upload) else []


def read(got: httpx.Response) -> Answer:
    """An answer as it came over the wire."""
    headers = dict(got.headers)
    kind = headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        lines = [line[6:] for line in got.text.splitlines() if line.startswith("data: ")]
        events = [json.loads(line) for line in lines]
        error = next((event["error"] for event in events if event.get("error")), None)
        good = tuple(event for event in events if not event.get("error"))
        return Answer(got.status_code, headers, events=good, error=error)
    if kind.partition(";")[0] == "application/json":
        body = got.json()
        error = body.get("error") if got.is_error else None
        return Answer(got.status_code, headers, body, error=error)
    return Answer(got.status_code, headers, data=got.content)


CLIENTS: dict[str, Callable[[str, str], Client]] = {
    "python": PythonSdk,
    "node": NodeSdk,
    "http": PlainHttp,
}
"""From a base URL and a key."""
