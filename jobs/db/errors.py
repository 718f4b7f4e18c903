"""What an error of the database means for the ledger, and whether a lapsed lease means a dead
holder or only that the ledger could not be reached. Pure; knows no statement."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError,
)

from jobs.ledger_errors import LedgerUnavailable

_OVERTAKEN = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock not available

_TRIES = 5

P = ParamSpec("P")
R = TypeVar("R")


class Overtaken(LedgerUnavailable):
    """Another transaction went first, and this one must begin again."""


def duplicate(error: Exception) -> bool:
    """Another transaction has just inserted the same key: a second look will find it."""
    return isinstance(error, IntegrityError)


def translated(error: Exception) -> LedgerUnavailable | None:
    """What the caller of a verb gets; None: it is not about the database's state, but a bug of
    ours. The reason is in one line and holds no password."""
    if duplicate(error) or getattr(_cause(error), "sqlstate", None) in _OVERTAKEN:
        return Overtaken(_reason(error))
    away = isinstance(error, OperationalError | InterfaceError | InternalError | TimeoutError)
    if away or type(error) is DatabaseError:
        return LedgerUnavailable(_reason(error))
    return None


def ends_all(error: Exception) -> bool:
    """Whether the whole transaction is lost with it, not only the call that met it."""
    return not duplicate(error) and translated(error) is not None


def again_if_overtaken(verb: Callable[P, R]) -> Callable[P, R]:
    """Run a verb again, from its beginning, when another transaction went first."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_TRIES - 1):
            try:
                return verb(*args, **kwargs)
            except Overtaken:
                continue
        return verb(*args, **kwargs)

    return run


def _cause(error: Exception) -> BaseException | None:
    return getattr(error, "orig", None)


def _reason(error: Exception) -> str:
    return " ".join(str(_cause(error) or error).split())


class Outage:
    """Remembers when this ledger client had no answer. After an outage (or a jump of the clock)
    every lease looks lapsed; the holders get one lease to renew before anything is taken away."""

    def __init__(self) -> None:
        self._last_success_at: float | None = None
        self._failed = False
        self._ended_at = float("-inf")

    def succeeded(self, now: float) -> None:
        """A call had an answer."""
        self._last_success_at = now

    def failed(self) -> None:
        """A call had none."""
        self._failed = True

    def look(self, now: float, patience_seconds: float) -> None:
        """Note an outage that ends now: a failure, or a silence longer than `patience_seconds`.
        One that ended in the future did so before the clock went back."""
        silent = (
            self._last_success_at is not None and now - self._last_success_at > patience_seconds
        )
        self._ended_at = now if self._failed or silent else min(self._ended_at, now)
        self._failed = False

    def lapsed(self, until: float, term_seconds: float, now: float) -> bool:
        """Whether a term that ran to `until` is over, a whole term after any outage at least."""
        return max(until, self._ended_at + term_seconds) <= now
