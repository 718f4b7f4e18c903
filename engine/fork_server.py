"""A process that forks a child for each call: a start costs a fork, and no child sees two calls.

The server reads nothing of what is sent to a child: each has a socket of its own.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from engine.child_process import command

FORK = b"f"
BUFFER_BYTES = 2**20


class ForkServer:
    """Runs `main(argument)` of a module, isolated, with the control socket as its standard input:
    each message ends the child before and starts the next, to talk over the file descriptor that
    comes along. One thread uses it at a time. It says itself that it wants to die with that thread
    (PR_SET_PDEATHSIG), and its children with it."""

    def __init__(self, module: str, argument: str) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command(module, argument, isolated=True),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the parent
            )
        self.pid = self._process.pid
        self._next = self._fork()

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._process.poll() is None

    def kill(self) -> None:
        """At once, whatever it does; nothing is left of it."""
        self._process.kill()
        self._control.close()
        self._next.close()
        self._process.wait()

    @contextmanager
    def child(self, seconds: float) -> Iterator[BinaryIO]:
        """A child of its own, which ends with the block, and the stream to it. That ends
        when the child does, or when the block lasts longer."""
        with self._next as ours:
            timer = threading.Timer(seconds, _break_off, [ours])
            timer.start()
            try:
                with ours.makefile("rwb") as stream:
                    yield cast(BinaryIO, stream)
            finally:
                timer.cancel()
                timer.join()
                self._next = self._fork()  # ready when the next call comes

    def _fork(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, suppress(OSError):  # the server is gone: the child's stream is at its end
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            socket.send_fds(self._control, [FORK], [theirs.fileno()])
        return ours


def _break_off(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
