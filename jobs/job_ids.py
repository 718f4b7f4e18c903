"""Ids of jobs and of their images."""

from __future__ import annotations

import re
import secrets


def new_job_id() -> str:
    """128 random bits, in hex."""
    return secrets.token_hex(16)


_IMAGE_ID = re.compile(r"img_([0-9a-f]{32})_([0-9])")


def image_id(job_id: str, index: int) -> str:
    """The public id of image `index` of a job."""
    return f"img_{job_id}_{index}"


def parse_image_id(text: str) -> tuple[str, int] | None:
    """(job id, index), or None for what `image_id` never makes."""
    match = _IMAGE_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None
