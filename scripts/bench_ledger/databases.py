"""An empty ledger of each kind, made for the bench and gone after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from scripts.postgres import LocalPostgres


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a file on the disk below `folder`, where fsync costs what it costs."""
    folder.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="ledger-", dir=folder))
    try:
        yield f"sqlite:///{directory}/ledger.db"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a server of our own, which syncs its commits to the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
    with LocalPostgres(settings, folder.resolve()) as server:
        yield server.url()


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}
