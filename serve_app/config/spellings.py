"""Texts of a configuration that must be spelled in one way. Each raises ValueError, which says what
is wanted; the text comes back as it is compared."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field
from pydantic.functional_validators import AfterValidator

from jobs.db.dsn import secrets_of
from jobs.queues import SEPARATOR
from serve_app.config.secret_fields import Secret
from serve_app.config.sizes import parse_size


def a_size(text: str) -> str:
    """WIDTHxHEIGHT, as requests spell it."""
    parse_size(text)
    return text


def a_zone(name: str) -> str:
    """An IANA name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}, wanted one such as Europe/Berlin") from None
    return name


def a_network(text: str) -> str:
    """An address or a network."""
    ip_network(text)
    return text


def a_host(text: str) -> str:
    """A name without a port, in small letters."""
    if not re.fullmatch(r"\[[0-9a-f:.]+\]|[a-z0-9_-]+(\.[a-z0-9_-]+)*", text.lower()):
        raise ValueError(f"{text!r} is no host name: wanted one such as localhost, without a port")
    return text.lower()


def an_origin(text: str) -> str:
    """Scheme and host, of one origin alone."""
    if "*" in text:
        raise ValueError("name each origin: * would let every page use the keys that it is given")
    if not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", text.lower()):
        raise ValueError(f"{text!r} is no origin: wanted one such as https://app.example.com")
    return text.lower()


def a_dsn(dsn: str) -> str:
    """What SQLAlchemy opens: a file of SQLite, or a PostgreSQL."""
    if not dsn.startswith(("sqlite:///", "postgresql://")) or dsn.endswith("//"):
        raise ValueError("must begin with sqlite:/// or postgresql://, and name a database")
    return dsn


def a_lane(name: str) -> str:
    """Without a slash."""
    if not name or SEPARATOR in name:
        raise ValueError(f"{name!r} is no lane: wanted a name without /, which queues have")
    return name


Lane = Annotated[str, AfterValidator(a_lane)]
Size = Annotated[str, AfterValidator(a_size)]
Zone = Annotated[str, AfterValidator(a_zone)]
Network = Annotated[str, AfterValidator(a_network)]
Host = Annotated[str, AfterValidator(a_host)]
Origin = Annotated[str, AfterValidator(an_origin)]
Dsn = Annotated[str, AfterValidator(a_dsn), Field(repr=False), Secret(secrets_of)]
