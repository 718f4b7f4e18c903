"""HTTP clients, and which requests the proxies of the environment may carry: none that stay on this
machine."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_NAMES = ("NO_PROXY", "no_proxy")


class UnusableEnvironment(Exception):
    """What the environment says about proxies or certificates cannot be followed. The message does
    not repeat its values: a proxy's URL may hold a password."""


def http_client(url: str, **options: Any) -> httpx.Client:
    """An HTTP client for what is at `url`; options: those of httpx. Raises UnusableEnvironment, and
    httpx.InvalidURL or ValueError for the URL itself."""
    httpx.URL(url)
    try:
        return httpx.Client(trust_env=may_use_proxy(url), **options)
    except ImportError:
        why = "SOCKS proxies need the package socksio (pip install 'httpx[socks]')"
    except (ValueError, httpx.InvalidURL):
        why = "it is no URL such as http://HOST:PORT"
    except OSError as error:
        raise UnusableEnvironment(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{error.strerror or 'they are not PEM'}"
        ) from None
    raise UnusableEnvironment(
        f"the proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used: {why}. "
        "Change or unset it, or name the host in NO_PROXY"
    )


def may_use_proxy(url: str) -> bool:
    """What `trust_env` of an HTTP client takes: False where the host of `url` is this machine."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return True  # the client says what is wrong with it
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


def without_password(url: str) -> str:
    """The URL as it may be shown: what stands before an @ in it is left out."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep child processes from asking this machine through a proxy. What they
    held before is kept; programs differ in which of the two spellings they read."""
    given = [environment[name] for name in _NAMES if environment.get(name)]
    if any(value.strip() == "*" for value in given):
        return dict.fromkeys(_NAMES, "*")  # some programs know the star only when it is alone
    hosts = [host.strip() for value in given for host in value.split(",") if host.strip()]
    return dict.fromkeys(_NAMES, ",".join(dict.fromkeys([*hosts, *LOOPBACK_HOSTS])))
