"""Whether every node sees the same directory or bucket of pictures: a hidden file in it holds an id
that the ledger knows. What one node stores, another one has to find."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from jobs.blobs.places import DirectoryPlace
from jobs.blobs.store import fsync_directory

MARKER = ".meltproof-store"  # no blob has such a name
_LOOKS, _PAUSE_SECONDS = 10, 0.5
"""A network file system may show another node's new file seconds later."""


class StoreNotShared(ValueError):
    """This place is not the one that the ledger's other processes use."""


class Ids(Protocol):
    """What it asks the ledger."""

    def store_id(self, found: str | None = None) -> str | None:
        """See Ledger."""


class Marker(Protocol):
    """The hidden file of one place. OSError when it cannot be read or written."""

    field: str
    """What the configuration calls the place."""
    place: str
    repair: str
    """How its id is written by hand; `{known}` stands for it."""

    def read(self) -> str | None:
        """The id in it, or None."""

    def create(self, made: str) -> bool:
        """Write an id, durable on return; False: there is a file already."""

    def replace(self, made: str) -> None:
        """Write an id over what is there."""

    def remove(self) -> None:
        """Take it away again."""


class DirectoryMarker:
    """Of a directory, which is made where it is missing."""

    def __init__(self, place: DirectoryPlace) -> None:
        directory = Path(place.directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / MARKER
        self.field, self.place = place.field, str(directory.absolute())
        self.repair = f"echo {{known}} > {self._path.absolute()}"

    def read(self) -> str | None:
        """See Marker."""
        return read_marker(self._path.parent)

    def create(self, made: str) -> bool:
        """See Marker."""
        with suppress(FileExistsError):
            self._write(made, "x")
            return True
        return False

    def replace(self, made: str) -> None:
        """See Marker."""
        self._write(made, "w")

    def remove(self) -> None:
        """See Marker."""
        self._path.unlink(missing_ok=True)

    def _write(self, made: str, mode: str) -> None:
        with self._path.open(mode) as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        fsync_directory(self._path.parent)


def check_marker(ledger: Ids, marker: Marker, sleep: Callable[[float], None] = time.sleep) -> None:
    """The first start marks the place, also one that has pictures already. Raises StoreNotShared,
    LedgerUnavailable, and OSError when it cannot be read or written."""
    known, found = ledger.store_id(), marker.read()
    if known is None:
        made = None if found else _mark(marker)
        found = found or made or _awaited(marker, sleep) or _rewrite(marker)
        known = ledger.store_id(found)
        if made and known != made:  # another node has just marked another place
            marker.remove()
    elif found is None:
        found = _awaited(marker, sleep)
    if found != known:
        raise StoreNotShared(_told(marker, known, found))


def read_marker(directory: Path) -> str | None:
    """The id in a directory, or None."""
    try:
        return (directory / MARKER).read_text().strip() or None
    except FileNotFoundError:
        return None


def _awaited(marker: Marker, sleep: Callable[[float], None]) -> str | None:
    for _ in range(_LOOKS):
        sleep(_PAUSE_SECONDS)
        if (found := marker.read()) is not None:
            return found
    return None


def _mark(marker: Marker) -> str | None:
    """A new id, written before the ledger knows it. None: another process is just doing it."""
    made = secrets.token_hex(16)
    return made if marker.create(made) else None


def _rewrite(marker: Marker) -> str:
    """Over an empty marker, whose writer has died."""
    made = secrets.token_hex(16)
    marker.replace(made)
    return made


def _told(marker: Marker, known: str | None, found: str | None) -> str:
    has = "has no marker" if found is None else f"is marked {found}"
    kind = marker.field.rpartition(".")[2]
    what = "a directory" if kind == "directory" else "a bucket"
    use = "mount" if kind == "directory" else "name"
    return (
        f"{marker.field}: {marker.place} {has}, but the pictures of this ledger are in {what} "
        f"marked {known}: {use} that one here, on every node that runs gateways or dispatchers. "
        f"If they were moved here, or are lost: {marker.repair.format(known=known)}"
    )
