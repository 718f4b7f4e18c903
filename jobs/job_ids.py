"""Job ids, and the virtual shard that each tells: so that whoever has an id knows where the job is.

A tenant belongs to one of 256 virtual shards for ever; which database holds that is configuration.
"""

from __future__ import annotations

import hashlib
import re
import secrets

VIRTUAL_SHARDS = 256


def virtual_shard(tenant: str) -> int:
    """0 to 255, the same everywhere and for ever."""
    return hashlib.blake2b(tenant.encode("utf-8", "replace"), digest_size=1).digest()[0]


def new_job_id(shard: int = 0) -> str:
    """Two hex digits of the virtual shard, then 120 random bits."""
    return f"{shard:02x}{secrets.token_hex(15)}"


def shard_of(job_id: str) -> int:
    """The virtual shard that `new_job_id` wrote into the id. ValueError for what is none."""
    return int(job_id[:2], 16)


def parse_virtual(text: str) -> list[int]:
    """ "00-3f,80" as numbers. ValueError for anything else."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"\s*([0-9a-f]{2})(?:-([0-9a-f]{2}))?\s*", part)
        if match is None:
            raise ValueError(f"{part!r} is no range of virtual shards, such as 00-7f")
        first = int(match[1], 16)
        found += range(first, int(match[2] or match[1], 16) + 1)
    return found


_IMAGE_ID = re.compile(r"img_([0-9a-f]{32})_([0-9])")


def image_id(job_id: str, index: int) -> str:
    """The public id of image `index` of a job."""
    return f"img_{job_id}_{index}"


def parse_image_id(text: str) -> tuple[str, int] | None:
    """(job id, index), or None for what `image_id` never makes."""
    match = _IMAGE_ID.fullmatch(text)
    return (match[1], int(match[2])) if match else None
