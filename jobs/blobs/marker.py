"""Whether every node sees the same directory of pictures: a hidden file in it holds an id that the
ledger knows. What one node stores, another one has to find."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

MARKER = ".meltproof-store"  # no blob has such a name
_LOOKS, _PAUSE_SECONDS = 10, 0.5
"""A network file system may show another node's new file seconds later."""


class StoreNotShared(ValueError):
    """This directory is not the one that the ledger's other processes use."""


class Ids(Protocol):
    """What it asks the ledger."""

    def store_id(self, found: str | None = None) -> str | None:
        """See Ledger."""


def check_store(ledger: Ids, directory: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """The first start marks the directory, also one that has pictures already. Raises
    StoreNotShared, LedgerUnavailable, and OSError when it cannot be read or written."""
    directory.mkdir(parents=True, exist_ok=True)
    known, found = ledger.store_id(), read_marker(directory)
    if known is None:
        made = None if found else _mark(directory)
        found = found or made or _awaited(directory, sleep) or _rewrite(directory)
        known = ledger.store_id(found)
        if made and known != made:  # another node has just marked another directory
            (directory / MARKER).unlink(missing_ok=True)
    elif found is None:
        found = _awaited(directory, sleep)
    if found != known:
        raise StoreNotShared(_told(directory, known, found))


def read_marker(directory: Path) -> str | None:
    """The id in a directory, or None."""
    try:
        return (directory / MARKER).read_text().strip() or None
    except FileNotFoundError:
        return None


def _awaited(directory: Path, sleep: Callable[[float], None]) -> str | None:
    for _ in range(_LOOKS):
        sleep(_PAUSE_SECONDS)
        if (found := read_marker(directory)) is not None:
            return found
    return None


def _mark(directory: Path) -> str | None:
    """A new id, on disk before the ledger knows it. None: another process is just doing it."""
    with suppress(FileExistsError):
        return _write(directory, "x")
    return None


def _rewrite(directory: Path) -> str:
    """Over an empty marker, whose writer has died."""
    return _write(directory, "w")


def _write(directory: Path, mode: str) -> str:
    made = secrets.token_hex(16)
    with (directory / MARKER).open(mode) as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return made


def _told(directory: Path, known: str | None, found: str | None) -> str:
    place = directory.absolute()
    has = "has no marker" if found is None else f"is marked {found}"
    return (
        f"blobs.directory: {place} {has}, but the pictures of this ledger are in a directory "
        f"marked {known}: mount that one here, on every node that runs gateways or dispatchers. "
        f"If they were moved here, or are lost: echo {known} > {place / MARKER}"
    )
