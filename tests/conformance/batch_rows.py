"""Batches: files of requests for pictures, as OpenAI's Batch API has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.conformance.clients import Client, Upload
from tests.conformance.file_rows import flat
from tests.conformance.row import Ask, Check, Does, Row, expect, good, refuses

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
ENDED = ("completed", "failed", "expired", "cancelled")
PATIENCE_SECONDS = 120.0
NOT_OURS = (
    "/v1/responses",
    "/v1/chat/completions",
    "/v1/embeddings",
    "/v1/completions",
    "/v1/moderations",
    "/v1/videos",
)
CREATE = Ask(
    "batches.create",
    {
        "input_file_id": "file-" + "0" * 32,
        "endpoint": GENERATIONS,
        "completion_window": "24h",
        "metadata": {"who": "ada"},
        "output_expires_after": {"anchor": "created_at", "seconds": 7200},
    },
)


def _line(number: int, url: str = GENERATIONS, **body: Any) -> str:
    said = {"prompt": "a red fox", "size": "64x64", "quality": "low", "seed": number, **body}
    return json.dumps({"custom_id": f"r{number}", "method": "POST", "url": url, "body": said})


def _made(client: Client, endpoint: str, *lines: str) -> Mapping[str, Any]:
    """A batch of these lines, once it has ended."""
    upload = Upload("lines.jsonl", "\n".join(lines).encode(), "application/jsonl")
    file = good(client.call("files.create", file=upload, purpose="batch")).body["id"]
    batch = good(CREATE(client, input_file_id=file, endpoint=endpoint)).body
    deadline = time.monotonic() + PATIENCE_SECONDS
    while batch["status"] not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = good(client.call("batches.retrieve", batch["id"])).body
    good(client.call("files.delete", file))
    return batch


@cache
def _drawn(client: Client) -> Mapping[str, Any]:
    return _made(client, GENERATIONS, _line(1), _line(2))


@cache
def _refused(client: Client) -> Mapping[str, Any]:
    return _made(client, GENERATIONS, _line(1, stream=True))


def _says(test: Callable[[Mapping[str, Any]], object], of: Any = _drawn) -> Check:
    def check(client: Client) -> None:
        batch = of(client)
        expect(bool(test(batch)), True, f"the batch {batch}")

    return check


def _results(client: Client) -> None:
    data = good(client.call("files.content", _drawn(client)["output_file_id"])).data
    rows = [json.loads(row) for row in data.splitlines()]
    expect([row["custom_id"] for row in rows], ["r1", "r2"], "custom ids")
    expect({row["response"]["status_code"] for row in rows}, {200}, "statuses")
    expect(all(row["response"]["body"]["data"][0]["b64_json"] for row in rows), True, "pictures")


def _expires(client: Client) -> None:
    file = good(client.call("files.retrieve", _drawn(client)["output_file_id"])).body
    expect(file["expires_at"] - file["created_at"], 7200, "life of the output file")


def _edits(client: Client) -> None:
    file = good(client.call("files.create", file=flat(), purpose="vision")).body["id"]
    batch = _made(client, EDITS, _line(1, EDITS, images=[{"file_id": file}]))
    good(client.call("files.delete", file))
    expect(batch["request_counts"]["completed"], 1, f"completed of {batch}")


def _listed(client: Client) -> None:
    first, second = _drawn(client)["id"], _refused(client)["id"]
    ids = [one["id"] for one in good(client.call("batches.list")).body["data"]]
    expect({first, second} <= set(ids), True, "both batches")
    one = good(client.call("batches.list", limit=1)).body["data"]
    expect([row["id"] for row in one], ids[:1], "the newest")
    behind = good(client.call("batches.list", after=ids[0])).body["data"]
    expect([row["id"] for row in behind], ids[1:], "those behind it")


def _cancelled(client: Client) -> None:
    answer = client.call("batches.cancel", _drawn(client)["id"])
    found = (answer.status, (answer.error or {}).get("code"))
    expect(found, (400, "batch_not_cancellable"), "a batch that has ended")
    answer = client.call("batches.cancel", "batch_none")
    expect((answer.status, (answer.error or {}).get("code")), (404, "batch_not_found"), "unknown")


def _row(
    kind: str, name: str, check: Check, note: str = "", does: Does = Does.HONOURED,
    values: tuple[str, ...] = (),
) -> Row:  # fmt: skip
    return Row("batches", kind, name, values, does, note, check)


def _error(name: str) -> Row:
    def test(batch: Mapping[str, Any]) -> bool:
        return name in batch["errors"]["data"][0]

    return _row("response", f"errors.data.{name}", _says(test, _refused), "of each wrong line")


BATCHES = [
    _row("parameter", "input_file_id", _says(lambda b: b["input_file_id"]), "purpose batch"),
    _row("parameter", "endpoint", _results, values=(GENERATIONS,)),
    _row("parameter", "endpoint", _edits, values=(EDITS,), note="pictures by file_id or data: URL"),
    _row(
        "parameter",
        "endpoint",
        refuses(CREATE, "endpoint", *({"endpoint": one} for one in NOT_OURS)),
        "400",
        Does.REFUSED,
        NOT_OURS,
    ),
    _row(
        "parameter",
        "completion_window",
        _says(lambda b: b["expires_at"] - b["created_at"] == 86_400),
        values=("24h",),
    ),
    _row("parameter", "metadata", _says(lambda b: b["metadata"] == {"who": "ada"})),
    _row(
        "parameter",
        "output_expires_after",
        _expires,
        "an hour to 30 days; both files",
    ),
    _row("response", "id", _says(lambda b: b["id"].startswith("batch_"))),
    _row("response", "object", _says(lambda b: b["object"] == "batch")),
    _row("response", "endpoint", _says(lambda b: b["endpoint"] == GENERATIONS)),
    _row("response", "input_file_id", _says(lambda b: b["input_file_id"].startswith("file-"))),
    _row("response", "completion_window", _says(lambda b: b["completion_window"] == "24h")),
    _row("response", "status", _says(lambda b: b["status"] == "completed"), "all eight"),
    _row("response", "model", _says(lambda b: b["model"]), "of the first line"),
    _row("response", "metadata", _says(lambda b: b["metadata"])),
    _row("response", "output_file_id", _results, "a line for each request that has a picture"),
    _row("response", "error_file_id", _says(lambda b: b["error_file_id"] is None), "of the others"),
    _row(
        "response",
        "created_at, in_progress_at, finalizing_at, completed_at, expires_at",
        _says(lambda b: b["created_at"] <= b["in_progress_at"] <= b["completed_at"]),
    ),
    _row("response", "failed_at", _says(lambda b: b["failed_at"], _refused)),
    _row(
        "response",
        "expired_at, cancelling_at, cancelled_at",
        _says(lambda b: b["expired_at"] is b["cancelled_at"] is b["cancelling_at"] is None),
        "null until then",
    ),
    _row("response", "errors", _says(lambda b: b["errors"], _refused), "why it was refused whole"),
    _row("response", "errors.object", _says(lambda b: b["errors"]["object"] == "list", _refused)),
    _row("response", "errors.data", _says(lambda b: len(b["errors"]["data"]) == 1, _refused)),
    *(_error(name) for name in ("code", "line", "message", "param")),
    _row(
        "response",
        "request_counts, request_counts.total, request_counts.completed, request_counts.failed",
        _says(lambda b: b["request_counts"] == {"total": 2, "completed": 2, "failed": 0}),
    ),
    _row(
        "response",
        "usage, usage.input_tokens, usage.output_tokens, usage.total_tokens",
        _says(lambda b: b["usage"]["total_tokens"] > b["usage"]["output_tokens"] > 0),
        "once it has ended",
    ),
    _row(
        "response",
        "usage.input_tokens_details, usage.input_tokens_details.cached_tokens, "
        "usage.output_tokens_details, usage.output_tokens_details.reasoning_tokens",
        _says(lambda b: b["usage"]["input_tokens_details"] == {"cached_tokens": 0}),
        "zeros",
    ),
    _row("endpoint", "GET /v1/batches", _listed, "limit 1..100, after"),
    _row("endpoint", "POST /v1/batches/{id}/cancel", _cancelled, "400 once it has ended"),
]
