"""A PostgreSQL server's answers, lost on the way: a socket between it and its clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"


class LosesAnswers:
    """Passes everything on, until `armed`: then one COMMIT is passed on, and the connection ends
    once the server has answered it, without that answer."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.lost = threading.Event()
        self._server = str(server / _SOCKET)
        self._armed = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / _SOCKET))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self) -> None:
        """The next COMMIT's answer is lost."""
        self._armed.set()

    def close(self) -> None:
        """No more connections."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server, mute = socket.socket(socket.AF_UNIX), threading.Event()
                server.connect(self._server)
                for work in (self._up, self._down):
                    threading.Thread(target=work, args=(client, server, mute), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if b"COMMIT" in data and self._armed.is_set():
                    self._armed.clear()
                    mute.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with client, server, suppress(OSError):
            while data := server.recv(65_536):
                if mute.is_set():
                    self.lost.set()
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def losing_answers(server: Path, folder: Path) -> Iterator[LosesAnswers]:
    """server: the directory of its socket. The other one is in `folder`."""
    between = LosesAnswers(server, folder)
    try:
        yield between
    finally:
        between.close()
