"""A process of this code that can be killed at any time, and the pipes to it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PATH = [str(Path(__file__).resolve().parents[1]), *map(os.path.abspath, sys.path)]
PIPE_BYTES = 2**20
"""A picture goes through in a few turns of two processes instead of fifty."""
BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main(sys.argv[2])"
)


def command(module: str, argument: str, *, isolated: bool) -> list[str]:
    """What runs `main(argument)` of a module; isolated: without the environment and the site
    packages' start-up code."""
    options = ["-I", "-S"] if isolated else []
    return [sys.executable, *options, "-c", BOOT, module, argument, *PATH]


class ChildProcess:
    """Runs `main("")` of a module, in this process's environment; one thread uses it at a time.

    The child says itself that it wants to die with its parent (PR_SET_PDEATHSIG): then it dies
    with the thread that started it.
    """

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            command(module, "", isolated=False),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.requests: IO[bytes] = self._process.stdin
        self.answers: IO[bytes] = self._process.stdout
        self.pid = self._process.pid
        for pipe in (self.requests, self.answers):
            with suppress(OSError, AttributeError):  # no memory for pipes left, or not on Linux
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._process.poll() is None

    def kill(self) -> int:
        """At once, whatever it does; nothing is left of it. The signal that ended it, or 0."""
        self._process.kill()
        with suppress(BrokenPipeError):  # what it had not read
            self.requests.close()
        self.answers.close()
        return max(0, -self._process.wait())

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Kill the child when the block lasts longer; EOFError when it is dead at the end."""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
        if not self.alive:
            raise EOFError
