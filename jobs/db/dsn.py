"""What a database's URL may show of itself. Parsed, never matched against a pattern."""

from __future__ import annotations

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

HARMLESS = frozenset(
    {
        "application_name",
        "connect_timeout",
        "dbname",
        "host",
        "hostaddr",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "port",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    }
)
"""Query parameters that are no secret; any other one, such as sslpassword, may be one."""


def secrets_of(dsn: object) -> frozenset[str]:
    """What must not be shown: the URL, when it holds a password or cannot be read, and the password
    alone; nothing of a URL without one."""
    whole = str(dsn)
    try:
        url = make_url(whole)
    except (ArgumentError, ValueError):
        return frozenset((whole,))
    words = {value for name, value in url.normalized_query.items() if name not in HARMLESS}
    found = {word for values in words for word in values}
    if url.password:
        found.add(str(url.password))
    return frozenset({whole, *found}) if found else frozenset()
