"""`backup` and `restore`: the ledger as of one moment, then the blobs that it names; back again the
blobs first, so that no row is ever without its picture."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from jobs.backup.manifest import (
    BLOB_LIST,
    BLOBS,
    IDENTITY,
    TABLES,
    BackupRefused,
    Manifest,
    check_files,
    file_digest,
    listed_blobs,
    read_manifest,
    write_manifest,
)
from jobs.backup.tables import check_unused, dump, images_now, kind_of, load_tables
from jobs.blobs.store import BlobMissing, BlobStore, DirectoryBlobs

_THREADS = 8
_AT_ONCE = 1_000
T = TypeVar("T")


class Copied(NamedTuple):
    """A blob that is in the backup now."""

    sha256: str
    bytes: int


def back_up(dsn: str, store: BlobStore, folder: Path, identity: Path) -> Manifest:
    """Into `folder`, which is made, or is empty. While the service writes: what is committed before
    the cut is in it with its blobs; what retention or an erasure deletes meanwhile may not be.
    identity: the folder of a local identity, where there is one. Raises BackupRefused,
    LedgerUnavailable, OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise BackupRefused(f"{folder}: is not empty")
    folder.chmod(0o700)  # hashes of keys, the secret that signs URLs, pictures of all tenants
    (folder / TABLES).mkdir()
    cut = dump(dsn, folder / TABLES)
    copies = DirectoryBlobs(folder / BLOBS)

    def copy(key: str) -> Copied | None:
        try:
            data = store.get(key)
        except BlobMissing:
            return None
        copies.put(key, data)
        return Copied(hashlib.sha256(data).hexdigest(), len(data))

    missing: list[str] = []
    count = size = 0
    with (folder / BLOB_LIST).open("w") as listed:
        for key, copied in _each(cut.keys, copy):
            if copied is None:
                missing.append(key)
                continue
            listed.write(f"{copied.sha256}\t{key}\n")
            count, size = count + 1, size + copied.bytes
    lost = sorted(images_now(dsn).intersection(missing)) if missing else []
    own = _copy_files(identity, folder / IDENTITY)
    files = [BLOB_LIST, *(f"{TABLES}/{name}" for name in cut.files), *own]
    manifest = Manifest(
        database=kind_of(dsn),
        cut_at=cut.at,
        columns=cut.columns,
        files={name: file_digest(folder / name) for name in files},
        blobs=count,
        bytes=size,
        lost=lost,
    )
    write_manifest(folder, manifest)
    return manifest


def restore(folder: Path, dsn: str, store: BlobStore, identity: Path) -> Manifest:
    """Into a ledger that was never used. A blob that is there already stays or is replaced, as its
    store does; a local identity stays. When it raises, the ledger is as empty as before:
    BackupRefused, LedgerUnavailable, OSError."""
    manifest = read_manifest(folder)
    if manifest.database != kind_of(dsn):
        raise BackupRefused(f"{folder}: is of {manifest.database}, ledger.dsn of {kind_of(dsn)}")
    check_unused(dsn)
    check_files(folder, manifest)
    copies = DirectoryBlobs(folder / BLOBS)
    digests = dict(listed_blobs(folder))

    def copy(key: str) -> None:
        try:
            data = copies.get(key)
        except (BlobMissing, ValueError):
            raise BackupRefused(f"{folder}: {BLOBS}/{key} is missing") from None
        if hashlib.sha256(data).hexdigest() != digests[key]:
            raise BackupRefused(f"{folder}: {BLOBS}/{key} is damaged")
        store.put(key, data)

    for _ in _each(digests, copy):
        pass
    if not identity.exists():
        _copy_files(folder / IDENTITY, identity)
    load_tables(dsn, folder / TABLES, manifest.columns)
    return manifest


def _copy_files(source: Path, target: Path) -> list[str]:
    """The files directly in a folder, if it is there; their paths below the target's parent."""
    if not source.is_dir():
        return []
    target.mkdir(parents=True, mode=0o700)
    found = sorted(path for path in source.iterdir() if path.is_file())
    for path in found:
        shutil.copy2(path, target / path.name)
    return [f"{target.name}/{path.name}" for path in found]


def _each(keys: Iterable[str], copy: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    """Each key with what `copy` makes of it, on several threads: every blob waits for a disk."""
    left = iter(keys)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(left, _AT_ONCE)):
            yield from zip(some, pool.map(copy, some), strict=True)
