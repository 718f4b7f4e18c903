"""Signed tokens: a tenant and its tier, vouched for by the operator, so that signing up a million
people writes nothing and asking for the first picture needs no look-up.

JSON Web Tokens (RFC 7519) with HMAC-SHA256 and a key id, so that any sign-up service can mint them:
header {"alg": "HS256", "kid": ...}, claims {"sub": tenant, "tier": ..., "exp": seconds}. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

from jobs.request import Tenant

TENANT_ID = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
_LONGEST = 4096


class TokenRefused(Exception):
    """The token says nothing; the message says why, and may be shown."""


def mint(tenant: Tenant, expires_at: float, key_id: str, secret: bytes) -> str:
    """A token that speaks for `tenant` until `expires_at`, seconds since the epoch."""
    if not TENANT_ID.fullmatch(tenant.id):
        raise ValueError(f"a tenant's name is {TENANT_ID.pattern}, not {tenant.id!r}")
    header = {"alg": "HS256", "kid": key_id, "typ": "JWT"}
    claims = {"sub": tenant.id, "tier": tenant.tier, "exp": int(expires_at)}
    signed = f"{_encode(_json(header))}.{_encode(_json(claims))}"
    return f"{signed}.{_encode(_signature(signed, secret))}"


def looks_like_a_token(bearer: str) -> bool:
    """Whether it has the three parts of one; no API key does."""
    return bearer.count(".") == 2


def verify(token: str, secrets: Mapping[str, bytes], now: float) -> Tenant:
    """Whom the token speaks for. `secrets`: by key id. Raises TokenRefused.

    Nothing of it is believed before its signature is right; the only algorithm is ours.
    """
    if len(token) > _LONGEST:
        raise TokenRefused("The token is too long.")
    signed, _, signature = token.rpartition(".")
    header, claims = (_document(part) for part in signed.split("."))
    secret = secrets.get(str(header.get("kid")))
    if header.get("alg") != "HS256" or secret is None:
        raise TokenRefused("The token is not signed by a key that is known here.")
    if not hmac.compare_digest(_signature(signed, secret), _decode(signature)):
        raise TokenRefused("The token's signature is wrong.")
    tenant, tier, expires = claims.get("sub"), claims.get("tier"), claims.get("exp")
    if not isinstance(tenant, str) or not TENANT_ID.fullmatch(tenant) or not isinstance(tier, str):
        raise TokenRefused("The token does not name a tenant and its tier.")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not expires > now:
        raise TokenRefused("The token has expired.")
    return Tenant(tenant, tier)


def _document(part: str) -> dict[str, Any]:
    try:
        document = json.loads(_decode(part))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenRefused("The token is malformed.")
    return document


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TokenRefused("The token is malformed.") from None


def _signature(signed: str, secret: bytes) -> bytes:
    return hmac.new(secret, signed.encode("utf-8", "replace"), hashlib.sha256).digest()
