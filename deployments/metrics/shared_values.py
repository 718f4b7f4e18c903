"""The values of this process in files that any process of its node can read.

Each process holds a number for as long as it lives (a lock on one byte, which the kernel lets go
however it ends), and its files carry that number in the names that prometheus_client's multiprocess
mode gives them. A process that starts takes the lowest free number and goes on with the counters of
the one that had it before: none goes back, none is counted twice, and there are never more files
than there were processes at a time. Gauges go with their process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from deployments.metrics.catalogue import Across

log = logging.getLogger("ray.serve")

FILE_BYTES = 2**19
"""Of each file, allocated at once: a write into a mapped hole of a full disk kills the process."""
SERIES = 1_200
"""In one file, which they fit in; what comes beyond is left out."""
PROCESSES = 4_096
KINDS = ("counter", "histogram", *(f"gauge_{across}" for across in Across))
"""As prometheus_client begins the names of files."""


class SharedValues:
    """Of this process, which has one at most for a directory: its locks are those of the process.
    For any thread. OSError when the directory cannot be written or the disk is full."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._locks = os.open(directory / "numbers.lock", os.O_RDWR | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self.number = next(n for n in range(PROCESSES) if self._locked(n))
        for file in directory.glob(f"gauge_*_{self.number}.db"):
            file.unlink()  # of the one before
        self._files = {kind: self._opened(kind) for kind in KINDS}
        self._series = {
            kind: {key for key, _, _ in file.read_all_values()}
            for kind, file in self._files.items()
        }

    def add(self, kind: str, key: str, amount: float) -> None:
        """To a value of that kind of file; key: as prometheus_client.mmap_dict.mmap_key makes."""
        self._write(kind, key, amount, added=True)

    def put(self, kind: str, key: str, value: float) -> None:
        """In place of a value."""
        self._write(kind, key, value, added=False)

    def live_files(self) -> Iterator[Path]:
        """Of all processes of the node, without gauges of those that have ended."""
        alive: dict[str, bool] = {}
        for file in sorted(self.directory.glob("*.db")):
            number = file.stem.rpartition("_")[2]
            if number not in alive:
                alive[number] = self._held(int(number))
            if alive[number] or not file.name.startswith("gauge"):
                yield file

    def close(self) -> None:
        """Let the number go."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files = {}
            os.close(self._locks)

    def _write(self, kind: str, key: str, value: float, *, added: bool) -> None:
        with self._lock:
            file, known = self._files[kind], self._series[kind]
            if key not in known:
                if len(known) >= SERIES:
                    return
                known.add(key)
            before = file.read_value(key)[0] if added else 0.0
            file.write_value(key, before + value, 0.0)

    def _opened(self, kind: str) -> MmapedDict:
        path = self.directory / f"{kind}_{self.number}.db"
        if path.exists() and not _is_whole(path):
            log.warning("metrics begin anew: %s cannot be read", path)
            path.unlink()
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, FILE_BYTES)
        return MmapedDict(str(path))

    def _held(self, number: int) -> bool:
        """Whether a process has it. Ours would seem free to us, and be let go by the try."""
        if number == self.number:
            return True
        if not self._locked(number):
            return True
        fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, number)
        return False

    def _locked(self, number: int) -> bool:
        with suppress(OSError):
            fcntl.lockf(self._locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            return True
        return False


def _is_whole(path: Path) -> bool:
    """Whether all that its head says is there: a node may have lost its power."""
    with suppress(Exception):
        used = int.from_bytes(path.read_bytes()[:4], sys.byteorder, signed=True)
        return used == 0 or len(list(MmapedDict.read_all_values_from_file(path))) * 24 < used
    return False
