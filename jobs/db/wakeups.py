"""Commits to a PostgreSQL ledger, by LISTEN and NOTIFY. Two threads, started when needed.

A NOTIFY holds a lock of the whole server until its commit is on disk, so it is not part of the
transaction that it tells of: each client sends one for all its commits of the last moments, in a
transaction of its own that waits for no disk. One that is lost (its sender died in between) is
made up for by a look at the server's snapshot four times a second.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

_log = logging.getLogger(__name__)
_CHANNEL = "meltproof"
_NOTIFY = "select pg_notify(%s, %s)"
_SNAPSHOT = "select pg_current_snapshot()::text"
_NOTIFY_PAUSE_SECONDS = 0.05
_HEAR_PAUSE_SECONDS = 0.01
_SAFETY_SECONDS = 0.25
_READY_SECONDS = 5.0

Connect = Callable[[], psycopg.Connection[Any]]


class Wakeups:
    """Counts the commits of all clients. `connect` opens a connection outside of pools: one for
    LISTEN, one for NOTIFY of our own commits."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._sender = secrets.token_hex(8)
        self._count = 0
        self._counting = threading.Condition()
        self._unsent = False
        self._to_send = threading.Event()
        self._listening = threading.Event()
        self._closed = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._interrupted, self._interrupt = os.pipe()

    def wrote(self) -> None:
        """We committed: our own version moves at once, the others' in a moment."""
        self._bump()
        self._unsent = True
        self._to_send.set()
        self._start("ledger-notify", self._notify)

    def version(self) -> int:
        """How often a commit was seen. Never fails: while the server is away it stands."""
        self._start("ledger-listen", self._listen)
        self._listening.wait(_READY_SECONDS)
        return self._count

    def changed(self, seen: int, seconds: float) -> int:
        """The version once it is not `seen`, after so long, or when interrupted."""
        if self.version() == seen:
            with self._counting:
                self._counting.wait_for(lambda: self._count != seen, seconds)
        return self._count

    def interrupt(self) -> None:
        """End `changed`: as if there had been a commit, which costs one look."""
        self._bump()

    def close(self) -> None:
        """Tell what is untold, then end both threads."""
        with self._counting:
            if self._closed.is_set():
                return
            self._closed.set()
        self._to_send.set()
        os.write(self._interrupt, b"x")
        for thread in self._threads.values():
            thread.join()
        os.close(self._interrupt)
        os.close(self._interrupted)

    def _bump(self) -> None:
        with self._counting:
            self._count += 1
            self._counting.notify_all()

    def _start(self, name: str, work: Callable[[], None]) -> None:
        if name in self._threads:
            return
        with self._counting:
            if name not in self._threads and not self._closed.is_set():
                self._threads[name] = threading.Thread(target=work, name=name, daemon=True)
                self._threads[name].start()

    def _notify(self) -> None:
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    connection.execute("set synchronous_commit = off")
                    self._notify_by(connection)
            except psycopg.Error as error:
                _log.debug("a notification was not sent, other clients poll: %s", error)
                self._closed.wait(_SAFETY_SECONDS)

    def _notify_by(self, connection: psycopg.Connection[Any]) -> None:
        last = False
        while not last:
            self._to_send.wait()
            self._to_send.clear()
            last = self._closed.is_set()
            if self._unsent:
                self._unsent = False
                connection.execute(_NOTIFY, (_CHANNEL, self._sender))
            self._closed.wait(_NOTIFY_PAUSE_SECONDS)

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"listen {_CHANNEL}".encode())
                    connection.add_notify_handler(lambda _: None)  # of one that comes with a look
                    if self._listening.is_set():
                        self._bump()  # whatever was written while we heard nothing
                    self._receive(connection)
            except psycopg.Error as error:
                _log.debug("no notifications until the server is back: %s", error)
                self._listening.set()
                self._closed.wait(_SAFETY_SECONDS)

    def _receive(self, connection: psycopg.Connection[Any]) -> None:
        seen = _snapshot(connection)
        self._listening.set()
        while not self._closed.is_set():
            waiting = [connection.fileno(), self._interrupted]
            ready, _, _ = select.select(waiting, [], [], _SAFETY_SECONDS)
            if ready:
                if set(_received(connection)) - {self._sender}:
                    self._bump()
                self._closed.wait(_HEAR_PAUSE_SECONDS)  # several are read together
            else:
                now = _snapshot(connection)
                if now != seen:  # also after a notice that was told: one look too many
                    self._bump()
                seen = now


def _received(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """The senders of what has arrived. As `Connection.notifies`, which costs ten times as much."""
    connection.pgconn.consume_input()
    while (notice := connection.pgconn.notifies()) is not None:
        yield notice.extra.decode()


def _snapshot(connection: psycopg.Connection[Any]) -> str | None:
    """Differs once a writing transaction has ended in between."""
    row = connection.execute(_SNAPSHOT.encode()).fetchone()
    return None if row is None else str(row[0])
