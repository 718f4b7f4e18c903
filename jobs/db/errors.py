"""What an error of the database means for the ledger. Pure; knows no statement."""

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
