"""Where pictures live: keys are paths we make ourselves, never what a user sent."""

from __future__ import annotations

from typing import Protocol


class BlobMissing(KeyError):
    """No blob under that key."""


class BlobStore(Protocol):
    """Bytes under a key. A blob is whole or absent; writing the same key again replaces it whole."""

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store; on return it survives a power cut when `durable`. OSError when it cannot."""

    def get(self, key: str) -> bytes:
        """The bytes; BlobMissing when there are none."""

    def delete(self, key: str) -> None:
        """Forget; no error when absent."""


def image_key(job_id: str, index: int, fence: int, extension: str) -> str:
    """Key of a final image; the fence keeps a late writer from touching the winner's bytes."""
    return f"images/{job_id[:6]}/{job_id}/{index}-{fence}.{extension}"


def preview_key(job_id: str, index: int, pass_no: int, extension: str) -> str:
    """Key of the preview after pass `pass_no`. A preview is a pure function of (render, pass),
    so a second writer writes the same bytes."""
    return f"previews/{job_id[:6]}/{job_id}/{index}-{pass_no}.{extension}"
