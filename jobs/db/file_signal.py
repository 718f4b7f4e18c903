"""Tells other processes of a commit to a file on this machine, and hears of theirs: each sets the
file's times, and inotify says so. Where there is no inotify, as on macOS, hearing is a short sleep.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from contextlib import suppress
from pathlib import Path

_ATTRIBUTES = 0x4
"""IN_ATTRIB: not what SQLite does to its file, only what `send` does."""
_SLEEP_SECONDS = 0.01


class FileSignal:
    """Of one file. `wait` belongs to one thread, `send` to any."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._opened = False

    def send(self) -> None:
        """Every `wait` ends, in this process too, or the next one does."""
        with suppress(OSError):  # they look by themselves, a little later
            os.utime(self._path)

    def listen(self) -> None:
        """No signal is missed from here on."""
        if self._opened:
            return
        self._opened = True
        with suppress(AttributeError):  # Linux alone
            libc = ctypes.CDLL(None)
            descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if descriptor < 0:  # too many on this machine
                return
            if libc.inotify_add_watch(descriptor, os.fsencode(self._path), _ATTRIBUTES) >= 0:
                self._descriptor = descriptor
            else:
                os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Whether there was a signal since the last wait; blocks for one, for so long at most."""
        if self._descriptor < 0:
            time.sleep(min(seconds, _SLEEP_SECONDS))
            return False
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return False
        with suppress(BlockingIOError):
            os.read(self._descriptor, 65_536)
        return True

    def close(self) -> None:
        """No thread waits any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
