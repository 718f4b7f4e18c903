"""Files of tenants: uploads that they see, and what the gateway prepared for edits.

A row is written before its blobs, and goes after them: no blob is ever without a row. A row whose
blobs never came is legal until it expires.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

VISION = "vision"
BATCH, BATCH_OUTPUT = "batch", "batch_output"
"""Of files with a line for each request, and for each result. Their blobs are their bytes in order,
each but the last of `PART_BYTES`."""
SHOWN = frozenset({VISION, BATCH, BATCH_OUTPUT})
"""Of files that their tenants see."""
PART_BYTES = 8 * 2**20
INPUT = "input"
"""Of files that no verb shows: the prepared pictures of an edit."""
LEFTOVER = "leftover"
"""No file: blobs of a job that are deleted once this expires. `id` is the job's, `blobs` those that
stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file. Times are seconds since the epoch on the ledger's clock; sizes are pixels."""

    id: str
    tenant: str
    purpose: str
    """One of `SHOWN`, INPUT or LEFTOVER."""
    filename: str
    bytes: int
    """As uploaded, or as kept where that is more."""
    width: int
    height: int
    blobs: tuple[str, ...]
    """Keys, all below `input_prefix` of its id."""
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class FileRoom:
    """How many files of one purpose a tenant may have."""

    files: int = 2**31
    bytes: int = 2**62
    """Of all of them together."""
    newcomer_bytes: int = 2**62
    """The same for a tenant that never asked for a picture."""


UNLIMITED = FileRoom()


def leftover(job_id: str, keep: tuple[str, ...] = ()) -> StoredFile:
    """Blobs of a job that no caller may ask for any more, to be deleted when the ledger says."""
    return StoredFile(
        id=job_id, tenant="", purpose=LEFTOVER, filename="", bytes=0, width=0, height=0,
        blobs=keep, created_at=0.0, expires_at=0.0,
    )  # fmt: skip


def new_file_id() -> str:
    """128 random bits, which cannot be guessed."""
    return f"file-{secrets.token_hex(16)}"


def input_prefix(file_id: str) -> str:
    """Below it are all blobs of a file."""
    digits = file_id.removeprefix("file-")
    return f"inputs/{digits[:2]}/{digits}"


def input_key(file_id: str, name: str) -> str:
    """Key of one of a file's blobs, whatever kind of picture it is."""
    return f"{input_prefix(file_id)}/{name}.png"


def part_key(file_id: str, number: int) -> str:
    """Key of one part of a file of lines."""
    return f"{input_prefix(file_id)}/{number:05}.jsonl"


def part_sizes(size_bytes: int) -> list[int]:
    """Of a file of lines, part by part."""
    whole, rest = divmod(size_bytes, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest else [])


def file_of(key: str) -> str:
    """The id of the file that one of `input_key`'s keys is of."""
    return f"file-{key.split('/')[2]}"
