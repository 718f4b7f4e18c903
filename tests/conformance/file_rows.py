"""Files as far as pictures need them: OpenAI's File objects with purpose vision."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image

from tests.conformance.clients import Client, Upload
from tests.conformance.row import Ask, Check, Does, Row, expect, good, opened, refuses


def flat(kind: str = "PNG", size: tuple[int, int] = (64, 64)) -> Upload:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, "#3060c0").save(out, kind)
    return Upload(f"blue.{kind.lower()}", out.getvalue(), f"image/{kind.lower()}")


CREATE = Ask("files.create", {"file": flat(), "purpose": "vision"})
LIST = Ask("files.list", {})
OTHER_PURPOSES = ("assistants", "fine-tune", "user_data", "evals")
DAY = {"anchor": "created_at", "seconds": 86_400}


@contextmanager
def kept(client: Client, **fields: Any) -> Iterator[Mapping[str, Any]]:
    """A file that is there while the block runs."""
    file = good(CREATE(client, **fields)).body
    try:
        yield file
    finally:
        good(client.call("files.delete", file["id"]))


def _keeps(test: Callable[[Mapping[str, Any]], bool], **fields: Any) -> Check:
    def check(client: Client) -> None:
        with kept(client, **fields) as file:
            expect(test(file), True, f"the file {file}")
            expect(good(client.call("files.retrieve", file["id"])).body, file, "the same again")

    return check


def _has(name: str, kind: type) -> Check:
    return _keeps(lambda file: isinstance(file[name], kind))


def _content(client: Client) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        with kept(client, file=flat(kind)) as file:
            data = good(client.call("files.content", file["id"])).data
            expect((opened(data).format, opened(data).size), (kind, (64, 64)), f"content of {kind}")


def _forgotten(client: Client) -> None:
    with kept(client) as file:
        pass
    for method in ("files.retrieve", "files.content", "files.delete"):
        answer = client.call(method, file["id"])
        found = (answer.status, (answer.error or {}).get("code"))
        expect(found, (404, "file_not_found"), method)


def _deleted(client: Client) -> None:
    file = good(CREATE(client)).body
    gone = good(client.call("files.delete", file["id"])).body
    expect(dict(gone), {"id": file["id"], "object": "file", "deleted": True}, "the answer")


def _pages(client: Client) -> None:
    with kept(client) as first, kept(client) as second:
        newest = good(LIST(client, limit=1)).body["data"]
        expect([file["id"] for file in newest], [second["id"]], "the newest")
        following = good(LIST(client, limit=1, after=second["id"])).body["data"]
        expect([file["id"] for file in following], [first["id"]], "the next")


def _ordered(client: Client) -> None:
    with kept(client), kept(client):
        plain, newest_first = (good(LIST(client, **how)).body["data"] for how in ({}, DESC))
        expect(newest_first, plain, "newest first")


DESC = {"order": "desc"}


def _of_purpose(client: Client) -> None:
    with kept(client) as file:
        ids = [one["id"] for one in good(LIST(client, purpose="vision")).body["data"]]
        expect(file["id"] in ids, True, "among the pictures")
        expect(good(LIST(client, purpose="batch")).body["data"], [], "files for batches")


def _row(kind: str, name: str, values: tuple[str, ...], does: Does, note: str, check: Check) -> Row:
    return Row("files", kind, name, values, does, note, check)


def _list_row(name: str, values: tuple[str, ...], does: Does, note: str, check: Check) -> Row:
    return Row("files list", "parameter", name, values, does, note, check)


HONOURED, REFUSED, NEVER = Does.HONOURED, Does.REFUSED, Does.NEVER_SENT
FILES = [
    _row(
        "parameter",
        "file",
        ("png", "jpeg", "webp"),
        HONOURED,
        "kept upright, without metadata, of its own kind; downloading it gives that",
        _content,
    ),
    _row(
        "parameter",
        "file",
        ("anything else",),
        REFUSED,
        "400 with what is wrong",
        refuses(CREATE, "", {"file": Upload("a.txt", b"no picture", "text/plain")}),
    ),
    _row(
        "parameter",
        "purpose",
        ("vision",),
        HONOURED,
        "pictures for edits",
        _keeps(lambda file: bool(file["purpose"] == "vision")),
    ),
    _row(
        "parameter",
        "purpose",
        ("batch",),
        HONOURED,
        "lines for /v1/batches, up to 200 MB",
        _keeps(
            lambda file: bool(file["purpose"] == "batch"),
            purpose="batch",
            file=Upload("lines.jsonl", b"{}", "application/jsonl"),
        ),
    ),
    _row(
        "parameter",
        "purpose",
        OTHER_PURPOSES,
        REFUSED,
        "400: only pictures and the lines of batches are kept",
        refuses(CREATE, "'vision'", *({"purpose": purpose} for purpose in OTHER_PURPOSES)),
    ),
    _row(
        "parameter",
        "expires_after",
        ("created_at + seconds",),
        HONOURED,
        "an hour up to what the operator keeps files (30 days)",
        _keeps(
            lambda file: bool(file["expires_at"] - file["created_at"] == 86_400), expires_after=DAY
        ),
    ),
    _row(
        "parameter",
        "expires_after",
        ("less than an hour",),
        REFUSED,
        "400",
        refuses(
            CREATE,
            "3600",
            {"expires_after": {"anchor": "created_at", "seconds": 60}},
            param="expires_after[seconds]",
        ),
    ),
    _row("response", "id", (), HONOURED, "", _has("id", str)),
    _row("response", "object", (), HONOURED, "", _keeps(lambda f: bool(f["object"] == "file"))),
    _row(
        "response", "bytes", (), HONOURED, "as sent, or kept where that is more", _has("bytes", int)
    ),
    _row("response", "created_at", (), HONOURED, "", _has("created_at", int)),
    _row("response", "expires_at", (), HONOURED, "always", _has("expires_at", int)),
    _row("response", "filename", (), HONOURED, "for people", _has("filename", str)),
    _row("response", "purpose", (), HONOURED, "", _has("purpose", str)),
    _row(
        "response",
        "status",
        (),
        HONOURED,
        "always processed",
        _keeps(lambda file: bool(file["status"] == "processed")),
    ),
    _row(
        "response",
        "status_details",
        (),
        NEVER,
        "nothing is trained",
        _keeps(lambda file: file.get("status_details") is None),
    ),
    _row("response", "size", (), HONOURED, "ours: WIDTHxHEIGHT", _has("size", str)),
    _row("response", "deleted", (), HONOURED, "of `DELETE /v1/files/{id}`", _deleted),
    _row(
        "endpoint",
        "GET, DELETE /v1/files/{another}",
        (),
        REFUSED,
        "404 `file_not_found`, also for another tenant's",
        _forgotten,
    ),
    _list_row("limit", ("1..1000",), HONOURED, "100 if not said", _pages),
    _list_row("limit", ("more",), REFUSED, "400", refuses(LIST, "1000", {"limit": 10_000})),
    _list_row("after", ("a file's id",), HONOURED, "", _pages),
    _list_row("order", ("desc",), HONOURED, "newest first", _ordered),
    _list_row("order", ("asc",), REFUSED, "400", refuses(LIST, "desc", {"order": "asc"})),
    _list_row("purpose", ("text",), HONOURED, "others than vision are empty", _of_purpose),
]
