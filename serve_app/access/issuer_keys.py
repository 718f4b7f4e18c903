"""The public keys of an OpenID Connect issuer: fetched when a token needs them, on a thread, by one
request at a time, and kept for as long as the issuer is away."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key

from serve_app.config.oidc import a_trusted_url

log = logging.getLogger(__name__)

REFETCH_SECONDS = 10.0
"""Keys are asked for at most so often, however many tokens name keys that are unknown."""
REFRESH_SECONDS = 300.0
"""After so long they are read again beside the requests, so that a withdrawn key stops."""
FETCH_SECONDS = 5.0
MOST_BYTES = 1 << 20
DISCOVERY = "/.well-known/openid-configuration"
SIGNING = ("RSA", "EC", "OKP")

Keys = Mapping[str, Key]


class KeysUnread(Exception):
    """The issuer cannot be asked for its keys just now, and never could."""


class NotAnIssuer(Exception):
    """What is answered is not what OpenID Connect says."""


class IssuerKeys:
    """Of one issuer and one gateway; on its event loop. read: blocks, and may raise."""

    def __init__(self, issuer: str, read: Callable[[], Keys]) -> None:
        self._issuer = issuer
        self._read = read
        self._keys: Keys = {}
        self._asked_at = self._read_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def key(self, key_id: str) -> Key | None:
        """That one; None when the issuer has none of that name. One that is known costs no wait.
        Raises KeysUnread as long as its keys were never read."""
        if key_id not in self._keys:
            if (asking := self._ask()) is not None:
                await asyncio.shield(asking)
        elif time.monotonic() - self._read_at > REFRESH_SECONDS:
            self._ask()
        if not self._keys:
            raise KeysUnread
        return self._keys.get(key_id)

    def _ask(self) -> asyncio.Task[None] | None:
        """The request that runs or begins now; None: there was one just before."""
        if self._asking is None or self._asking.done():
            now = time.monotonic()
            if now - self._asked_at < REFETCH_SECONDS:
                return None
            self._asked_at = now
            self._asking = asyncio.create_task(self._fetch())
        return self._asking

    async def _fetch(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._read)
        except (NotAnIssuer, httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            kept = f"{len(self._keys)} keys stay known" if self._keys else "no key of it is known"
            log.warning("keys of %s could not be read, %s: %s", self._issuer, kept, error)
            return
        self._read_at = time.monotonic()


def read_keys(issuer: str, jwks_url: str | None) -> Keys:
    """The issuer's keys by id, as they are now. Raises NotAnIssuer, httpx.HTTPError, OSError."""
    with httpx.Client(timeout=FETCH_SECONDS, follow_redirects=False) as client:
        if jwks_url is None:
            said = _read_json(client, issuer.rstrip("/") + DISCOVERY)
            if said.get("issuer") != issuer:
                raise NotAnIssuer(f"its discovery document is of issuer {said.get('issuer')!r}")
            try:
                jwks_url = a_trusted_url(str(said.get("jwks_uri")))
            except ValueError as error:
                raise NotAnIssuer(f"jwks_uri {error}") from None
        return usable_keys(_read_json(client, jwks_url))


def _read_json(client: httpx.Client, url: str) -> dict[str, Any]:
    with client.stream("GET", url, headers={"accept": "application/json"}) as answer:
        if answer.status_code != httpx.codes.OK:
            raise NotAnIssuer(f"{url} answers {answer.status_code}")
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise NotAnIssuer(f"{url} has more than {MOST_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAnIssuer(f"{url} is not JSON") from None
    if not isinstance(document, dict):
        raise NotAnIssuer(f"{url} is not a JSON object")
    return document


def usable_keys(jwks: Mapping[str, Any]) -> Keys:
    """Those that sign and have an id; what is not understood is left out (RFC 7517 5). Raises
    NotAnIssuer when none is left."""
    listed = jwks.get("keys")
    keys: dict[str, Key] = {}
    for one in listed if isinstance(listed, list) else ():
        if not isinstance(one, dict) or not isinstance(key_id := one.get("kid"), str):
            continue
        if one.get("kty") in SIGNING and one.get("use", "sig") == "sig":
            try:
                keys.setdefault(key_id, import_key(one))
            except (JoseError, ValueError, TypeError, KeyError) as error:
                log.warning("key %.64s is left out: %s", key_id, error)
    if not keys:
        raise NotAnIssuer("there is no key for signatures in it")
    return keys
