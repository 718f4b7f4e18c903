"""What operators change, for an append-only log: written before the change, and what came of it
after. Without the first entry nothing is changed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from jobs.ledger_errors import LedgerUnavailable

BEGUN, DONE = "begun", "done"
_LONGEST = 200
"""Characters of each word: targets may be what a client sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminCall:
    """One entry: what an operator does, and how far it has come."""

    id: str
    """The same in both entries of a call."""
    operator: str
    """The id of its key or token; of a command `user@host`, as the system names them."""
    action: str
    """As the command line says it: `keys create`, `jobs cancel`."""
    target: str
    """What it is done to: a job, a tenant, the start of a key. Never a secret."""
    outcome: str = BEGUN
    """`begun`, then `done` or the code of an error."""
    at: float = 0.0
    """Seconds since the epoch on the ledger's clock; 0 until it is logged."""


class AdminLog(Protocol):
    """The log of what operators changed. Entries are added, never changed and never forgotten."""

    def log_admin_call(self, call: AdminCall) -> None:
        """Add an entry; durable on return."""

    def admin_calls(self, limit: int, operator: str | None = None) -> list[AdminCall]:
        """The newest calls, newest first, each with the last that is known of it."""


def new_call(operator: str, action: str, target: str) -> AdminCall:
    """Its first entry."""
    operator, action, target = (word[:_LONGEST] for word in (operator, action, target))
    return AdminCall(id=secrets.token_hex(8), operator=operator, action=action, target=target)


def ended(call: AdminCall, error: BaseException | None = None) -> AdminCall:
    """Its second entry. error: what the call raised."""
    code = getattr(error, "code", None)
    outcome = code if isinstance(code, str) else type(error).__name__
    return replace(call, outcome=DONE if error is None else outcome)


@contextmanager
def audited(log: AdminLog, operator: str, action: str, target: str) -> Iterator[None]:
    """Around a change: logs it, and what came of it. Raises LedgerUnavailable before it begins."""
    call = new_call(operator, action, target)
    log.log_admin_call(call)
    try:
        yield
    except BaseException as error:
        with suppress(LedgerUnavailable):  # the first entry stays, as one that has not ended
            log.log_admin_call(ended(call, error))
        raise
    log.log_admin_call(ended(call))
