"""The fuzzed service as a child process, and how much memory it and its own children take."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Service:
    """url: without a slash at the end. Peaks are resident bytes: of the server itself, and of any
    one of the processes that it started."""

    url: str
    process: psutil.Process
    server_peak_bytes: int = 0
    child_peak_bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Until it is over."""
        while not self._ended.wait(LOOK_SECONDS):
            with suppress(psutil.Error):
                self.server_peak_bytes = max(self.server_peak_bytes, _resident(self.process))
                for child in self.process.children(recursive=True):
                    with suppress(psutil.Error):
                        self.child_peak_bytes = max(self.child_peak_bytes, _resident(child))

    def end(self) -> None:
        """Look no more."""
        self._ended.set()


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Up, watched, and down again. What it says goes to a log in the folder."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.server", str(folder / "service")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip().rstrip("/")
    if not url:
        raise RuntimeError(f"the server did not start:\n{(folder / 'server.log').read_text()}")
    running = Service(url, psutil.Process(process.pid))
    looking = threading.Thread(target=running.look)
    looking.start()
    try:
        yield running
    finally:
        running.end()
        looking.join()
        process.stdin.close()
        process.wait(60)


def _resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)
