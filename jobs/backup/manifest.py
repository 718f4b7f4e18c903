"""What a backup's folder says of itself. The manifest is written last: a folder without one is no
backup. Blobs stand in a list of their own, a line each, whose digest is in the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jobs.db.schema import SCHEMA_VERSION

FORMAT = "meltproof-backup 1"
MANIFEST, BLOB_LIST = "manifest.json", "blobs.tsv"
BLOBS, TABLES, IDENTITY = "blobs", "ledger", "identity"
_CHUNK_BYTES = 1 << 20


class BackupRefused(ValueError):
    """The folder is no whole backup, or is not for this place. Nothing of it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole backup."""

    database: str
    """`sqlite` or `postgresql`: which kind its tables can be loaded into."""
    cut_at: float
    """Seconds since the epoch on the ledger's clock: all that was committed before is in it."""
    schema: int = SCHEMA_VERSION
    columns: Mapping[str, list[str]]
    """By table, in the order of its file; empty for sqlite."""
    files: Mapping[str, str]
    """sha256 of every file but the blobs', by its path below the folder."""
    blobs: int
    bytes: int
    """Of the blobs."""
    lost: list[str]
    """Keys that the ledger named before and after the copy, and that the store does not have."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Durable on return, with everything else below the folder."""
    for name in manifest.files:
        _sync(folder / name)
    said = {"format": FORMAT, **asdict(manifest)}
    temporary = folder / f".{MANIFEST}"
    with temporary.open("x") as file:
        json.dump({**said, "digest": _digest(said)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / MANIFEST)
    _sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """Raises BackupRefused for a folder that is none, is unfinished, damaged, or of a newer
    Meltproof."""
    try:
        said: Any = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BackupRefused(
            f"{folder}: no backup, or one that was not finished: it has no {MANIFEST}"
        ) from None
    except ValueError:
        raise BackupRefused(f"{folder}: {MANIFEST} is damaged: it is not JSON") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise BackupRefused(f"{folder}: {MANIFEST} is not of a {FORMAT}")
    digest = said.pop("digest", None)
    if digest != _digest(said):
        raise BackupRefused(f"{folder}: {MANIFEST} is damaged: its digest is another one")
    manifest = Manifest(**{one.name: said[one.name] for one in fields(Manifest)})
    if manifest.schema > SCHEMA_VERSION:
        raise BackupRefused(
            f"{folder}: its tables are of schema {manifest.schema}, this Meltproof knows "
            f"{SCHEMA_VERSION}: restore it with the release that made it, or a newer one"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises BackupRefused when one is missing, or another one than was written."""
    for name, digest in manifest.files.items():
        try:
            found = file_digest(folder / name)
        except FileNotFoundError:
            raise BackupRefused(f"{folder}: {name} is missing") from None
        if found != digest:
            raise BackupRefused(f"{folder}: {name} is damaged: its digest is another one")


def listed_blobs(folder: Path) -> Iterator[tuple[str, str]]:
    """Key and sha256 of each. Check the list's own digest before."""
    with (folder / BLOB_LIST).open() as lines:
        for line in lines:
            digest, _, key = line.rstrip("\n").partition("\t")
            yield key, digest


def file_digest(path: Path) -> str:
    """sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
