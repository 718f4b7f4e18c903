"""A database's URL, and what it may show of itself. Parsed, never matched against a pattern."""

from __future__ import annotations

from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, make_url
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
        "passfile",
        "port",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
        "tcp_user_timeout",
        "user",
    }
)
"""Query parameters that are no secret; any other one, such as sslpassword, may be one."""


def parse_dsn(dsn: str) -> URL:
    """As SQLAlchemy takes it; also with several servers, as libpq writes them: host1:5432,host2/db.
    ValueError, which repeats nothing of it, since it may hold a password."""
    try:
        if dsn.startswith("postgresql://") and "," in urlsplit(dsn).netloc.rpartition("@")[2]:
            return _several(dsn)
        return make_url(dsn)
    except (ArgumentError, ValueError):
        raise ValueError("cannot be read") from None


def servers_of(url: URL) -> int:
    """How many a PostgreSQL's URL names."""
    hosts = url.normalized_query.get("host", ())
    return max(1, sum(len(host.split(",")) for host in hosts))


def _several(dsn: str) -> URL:
    try:
        said = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except ProgrammingError:
        raise ValueError from None
    if not all(port.isdigit() for port in said.get("port", "").split(",") if port):
        raise ValueError
    user, password, database = (said.pop(name, None) for name in ("user", "password", "dbname"))
    return URL.create("postgresql", user, password, database=database, query=said)


def secrets_of(dsn: object) -> frozenset[str]:
    """What must not be shown: the URL, when it holds a password or cannot be read, and the password
    alone; nothing of a URL without one."""
    whole = str(dsn)
    try:
        url = parse_dsn(whole)
    except ValueError:
        return frozenset((whole,))
    words = {value for name, value in url.normalized_query.items() if name not in HARMLESS}
    found = {word for values in words for word in values}
    if url.password:
        found.add(str(url.password))
    return frozenset({whole, *found}) if found else frozenset()
