"""What Serve holds of the replica that this process is. No public name leads to it in Ray 2.60; a
cluster test fails when a private one has moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray._private.worker import global_worker


def reserved_tokens() -> frozenset[str]:
    """Its reservations that no call has used."""
    return frozenset(token for one in _implementations() for token in one._reserved_slots)


def is_stopping() -> bool:
    """Whether Serve has asked it to stop: no new call is sent here, and this process is killed
    once the calls under way have ended, or its deployment's graceful_shutdown_timeout_s is over.
    Serve's own hook, `__del__`, comes only after those calls."""
    return any(one._shutting_down for one in _implementations())


def _implementations() -> Iterator[Any]:
    for actor in list(global_worker.actors.values()):
        if (implementation := getattr(actor, "_replica_impl", None)) is not None:
            yield implementation
