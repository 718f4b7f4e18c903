"""What a retry is known by: a digest of what its body says, however its fields are ordered and
spelled. Beside it that of the bytes, which older versions stored. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from jobs.request import ImageRequest
from jobs.sql.reattaching import may_reattach

LONG_CHARACTERS = 1000
"""Strings beyond this, as pictures are, enter by their own digest, which blocks no other thread."""


def with_hash(
    request: ImageRequest, body: BaseModel, raw: bytes = b"", path: str = ""
) -> ImageRequest:
    """The request, known by its body; the same one elsewhere (`path`) is another request."""
    known = replace(request, body_hash=body_hash(body, path))
    return replace(known, raw_hash=bytes_hash(raw, path)) if may_reattach(request) else known


def body_hash(body: BaseModel, path: str = "") -> str:
    """Hex digest of the fields that were sent."""
    said = _short(body.model_dump(exclude_unset=True))
    canonical = json.dumps([path, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def bytes_hash(raw: bytes, path: str = "") -> str:
    """Hex digest of the bytes themselves."""
    digest = hashlib.sha256(f"{path}\n".encode() if path else b"")
    digest.update(raw)
    return digest.hexdigest()


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG_CHARACTERS:
        return {"sha256": hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()}
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list | tuple) else value
