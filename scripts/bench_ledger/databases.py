"""An empty ledger of each kind, made for the bench and gone after it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a file on the disk below `folder`, where fsync costs what it costs."""
    folder.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="ledger-", dir=folder))
    try:
        yield f"sqlite:///{directory}/ledger.db"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {"sqlite": sqlite}
