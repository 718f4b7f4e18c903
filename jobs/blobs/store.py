"""Where pictures live: keys are paths we make ourselves, never what a user sent. Each is written
once, or again with what was made for the same purpose."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

# Every segment starts with a letter or digit, so "..", "." and absolute paths cannot be written.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,7}")


class BlobMissing(KeyError):
    """No blob under that key."""


class StoreUnavailable(OSError):
    """The store does not answer, or not as it should."""


class BlobStore(Protocol):
    """Bytes under a key, whole or absent. Of a key that is written again one writer's bytes are
    there, whole: which, the store says. Every verb blocks, and raises StoreUnavailable."""

    round_trip_bytes: int
    """What is worth asking for at once."""

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store; on return it survives a power cut when `durable`. OSError when it cannot."""

    def get(self, key: str) -> bytes:
        """The bytes; BlobMissing when there are none."""

    def size(self, key: str) -> int:
        """How many bytes there are; BlobMissing when there is no blob."""

    def read(self, key: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on, fewer only at the end; BlobMissing."""

    def delete(self, key: str) -> None:
        """Forget; no error when absent."""

    def clear(self, prefix: str, keep: Collection[str] = ()) -> None:
        """Forget every key directly below `prefix` but those in `keep`; `prefix` must have ended,
        since a `put` below it at the same time may fail. OSError when it cannot."""

    def link(self, key: str, method: Literal["GET", "HEAD"], seconds: float) -> str | None:
        """A URL at which the blob is read for so long without a key; None: only through us."""


class DirectoryBlobs:
    """A BlobStore in a local directory. ValueError for a key that we would never make."""

    round_trip_bytes = 1

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._root.mkdir(parents=True, exist_ok=True)

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """See BlobStore: a hidden file beside it, then a rename, so no reader sees half a blob. It
        takes the place of what is there, which a power cut may have left empty."""
        path = self._path(key)
        self._make_directory(path.parent, durable)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            fsync_directory(path.parent)

    def get(self, key: str) -> bytes:
        """See BlobStore."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise BlobMissing(key) from None

    def size(self, key: str) -> int:
        """See BlobStore."""
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(key) from None
        if not stat.S_ISREG(found.st_mode):
            raise BlobMissing(key)
        return found.st_size

    def read(self, key: str, offset: int, length: int) -> bytes:
        """See BlobStore."""
        try:
            with self._path(key).open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(length)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise BlobMissing(key) from None

    def delete(self, key: str) -> None:
        """See BlobStore."""
        try:
            self._path(key).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return

    def clear(self, prefix: str, keep: Collection[str] = ()) -> None:
        """See BlobStore: an empty directory goes too."""
        directory = self._path(prefix)
        try:
            found = list(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        kept = {self._path(key) for key in keep}
        for path in found:
            if path not in kept:
                path.unlink(missing_ok=True)
        if not kept.intersection(found):
            with suppress(OSError):  # a late writer has put something there
                directory.rmdir()

    def link(self, key: str, method: Literal["GET", "HEAD"], seconds: float) -> str | None:
        """See BlobStore."""
        check_key(key)
        return None

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _make_directory(self, directory: Path, durable: bool) -> None:
        """mkdir -p; a new directory is durable only once its parent is synced too."""
        if directory.is_dir():
            return
        self._make_directory(directory.parent, durable)
        directory.mkdir(exist_ok=True)
        if durable:
            fsync_directory(directory.parent)


def check_key(key: str) -> None:
    """ValueError for one that we would never make."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"not a blob key: {key!r}")


def fsync_directory(directory: Path) -> None:
    """New names in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def job_prefixes(job_id: str) -> tuple[str, str, str]:
    """Below these are all blobs of a job: its images, its previews and its checkpoints."""
    below = f"{job_id[:6]}/{job_id}"
    return f"images/{below}", f"previews/{below}", f"checkpoints/{below}"


def image_key(job_id: str, index: int, fence: int, extension: str) -> str:
    """Key of a final image; the fence keeps a late writer from touching the winner's bytes."""
    return f"{job_prefixes(job_id)[0]}/{index}-{fence}.{extension}"


def preview_key(job_id: str, index: int, pass_no: int, extension: str) -> str:
    """Key of the preview after pass `pass_no`. A preview is a pure function of (render, pass),
    so a second writer writes the same bytes."""
    return f"{job_prefixes(job_id)[1]}/{index}-{pass_no}.{extension}"


def checkpoint_key(job_id: str, index: int, fence: int, pass_no: int) -> str:
    """Key of a checkpoint that is too large for the ledger; the fence keeps a late writer from
    touching what the next holder goes on from."""
    return f"{job_prefixes(job_id)[2]}/{index}-{fence}-{pass_no}.bin"
