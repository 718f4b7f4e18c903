"""OpenAI's File objects as JSON, and the bounds of its Files API. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from typing_extensions import TypedDict

from jobs.files import VISION, StoredFile
from serve_app.wire.fields import Count, PixelSize, Seconds

MOST_LISTED = 1000
"""Files on one page of a list."""
LEAST_SECONDS = 3600
"""The shortest life that `expires_after[seconds]` may ask for."""


class OfPicture(TypedDict, total=False):
    size: PixelSize


class FileBody(OfPicture):
    """The file."""

    id: str
    object: Literal["file"]
    bytes: Count
    created_at: Seconds
    expires_at: Seconds
    filename: str
    purpose: str
    status: str


class PageEnds(TypedDict, total=False):
    first_id: str
    last_id: str


class FilesBody(PageEnds):
    """The files, newest first."""

    object: Literal["list"]
    data: list[FileBody]
    has_more: bool


class DeletedBody(TypedDict):
    """The file has been deleted."""

    id: str
    object: Literal["file"]
    deleted: bool


def file_body(file: StoredFile) -> FileBody:
    """OpenAI's File object; the size of a picture is ours."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        **_size(file),
    }


def _size(file: StoredFile) -> OfPicture:
    return {"size": f"{file.width}x{file.height}"} if file.purpose == VISION else {}


def files_body(found: Sequence[StoredFile], limit: int) -> FilesBody:
    """A page of `limit` files at most; when one more was found, the page says so."""
    page = [file_body(file) for file in found[:limit]]
    ends: PageEnds = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
    return {"object": "list", "data": page, **ends, "has_more": len(found) > len(page)}
