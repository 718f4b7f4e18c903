"""How long a synchronous job lives without its client, and what `watched_until` says of it. Pure.

A gateway that waits renews the watch for a whole term, far longer than the grace: one that is cut
off from the ledger, alone, cannot say that its clients still wait. One whose client has left says
so, which shortens the watch to a grace.
"""

from __future__ import annotations

TERM_GRACES = 5.0
"""A watch that is not renewed lapses after so many graces: 600 s with the usual one of 120 s,
which is as long as the SDK waits for any answer."""
RENEWALS_A_GRACE = 4.0


def term_seconds(grace_seconds: float) -> float:
    """How long a watch lasts from each renewal on, for as long as nothing else is said."""
    return TERM_GRACES * grace_seconds


def renewal_seconds(grace_seconds: float) -> float:
    """How long a gateway lets pass between two renewals."""
    return grace_seconds / RENEWALS_A_GRACE


def is_waited_for(watched_until: float | None, now: float, grace_seconds: float) -> bool:
    """Whether a connection to some gateway is open for it, as far as the ledger knows: the watch
    was renewed within two renewals' time, and not given up."""
    silent_seconds = 2 * renewal_seconds(grace_seconds)
    return (
        watched_until is not None
        and watched_until > now + term_seconds(grace_seconds) - silent_seconds
    )
