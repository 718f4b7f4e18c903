"""Signed tokens: a tenant and its tier, vouched for by the operator, so that signing up a million
people writes nothing and asking for the first picture needs no look-up.

JSON Web Tokens (RFC 7519) with HMAC-SHA256 and a key id, so that any sign-up service can mint them:
header {"alg": "HS256", "kid": ...}, claims {"sub": tenant, "tier": ..., "exp": seconds}, and where
they are there `nbf`, `iat` and `aud`. Pure; joserfc does the work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, MissingClaimError
from joserfc.jwk import GuestProtocol, OctKey
from joserfc.jws import JWSRegistry

from jobs.request import Tenant

TENANT_ID = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
ALGORITHM = "HS256"
CLOCK_SECONDS = 60
"""So far may a minting service's clock be ahead, for `nbf` and `iat`."""
_LONGEST = 4096
_HEADERS = JWSRegistry(algorithms=[ALGORITHM], strict_check_header=False)  # RFC 7515 4: ignored


class TokenRefused(Exception):
    """The token is not valid; the message says why, and may be shown."""


def mint(
    tenant: Tenant, expires_at: float, key_id: str, secret: bytes, audience: str | None = None
) -> str:
    """A token that speaks for `tenant` until `expires_at`, seconds since the epoch."""
    if not TENANT_ID.fullmatch(tenant.id):
        raise ValueError(f"a tenant's name is {TENANT_ID.pattern}, not {tenant.id!r}")
    claims: dict[str, Any] = {"sub": tenant.id, "tier": tenant.tier, "exp": int(expires_at)}
    if audience is not None:
        claims["aud"] = audience
    return jwt.encode({"alg": ALGORITHM, "kid": key_id}, claims, _key(secret), [ALGORITHM])


def looks_like_a_token(bearer: str) -> bool:
    """Whether it has the three parts of one; no API key does."""
    return bearer.count(".") == 2


def verify(
    token: str, secrets: Mapping[str, bytes], now: float, audiences: Mapping[str, str] | None = None
) -> Tenant:
    """The token's tenant. secrets: by key id. audiences: by key id, what its tokens must
    name; where there is none, a token for an audience is refused. Raises TokenRefused."""
    if len(token) > _LONGEST:
        raise TokenRefused("The token is too long.")
    try:
        read = jwt.decode(token, lambda given: _known(given, secrets), registry=_HEADERS)
    except BadSignatureError:
        raise TokenRefused("The token's signature is wrong.") from None
    except (JoseError, ValueError, TypeError, RecursionError):
        raise TokenRefused("The token is malformed.") from None
    if "crit" in read.header:
        raise TokenRefused("The token has critical headers (crit) that are not known here.")
    _check_times(read.claims, now)
    _check_audience(read.claims, (audiences or {}).get(read.header["kid"]))
    return _tenant(read.claims)


def _known(given: GuestProtocol, secrets: Mapping[str, bytes]) -> OctKey:
    headers = given.headers()
    secret = secrets.get(str(headers.get("kid")))
    if secret is None or headers.get("alg") != ALGORITHM:
        raise TokenRefused("The token is not signed by a key that is known here.")
    return _key(secret)


@lru_cache(maxsize=64)
def _key(secret: bytes) -> OctKey:
    return OctKey.import_key(secret)


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Numbers of seconds, none of them infinite. Without leeway for `exp`."""
    expiring = jwt.JWTClaimsRegistry(int(now), CLOCK_SECONDS, exp={"essential": True})
    try:
        expiring.validate({name: claims[name] for name in ("exp", "nbf", "iat") if name in claims})
    except MissingClaimError:
        raise TokenRefused("The token does not say when it expires (exp).") from None
    except JoseError as error:
        if error.error == "expired_token":
            raise TokenRefused("The token has expired.") from None
        raise TokenRefused(f"The token is not valid now: {error.description}.") from None
    if claims["exp"] <= now:
        raise TokenRefused("The token has expired.")


def _check_audience(claims: dict[str, Any], audience: str | None) -> None:
    if audience is None:
        if claims.get("aud") is not None:
            raise TokenRefused("The token is for another audience (aud).")
        return
    try:
        wanted = jwt.JWTClaimsRegistry(aud={"essential": True, "value": audience})
        wanted.validate({"aud": claims.get("aud")})
    except JoseError:
        raise TokenRefused("The token is for another audience (aud).") from None


def _tenant(claims: dict[str, Any]) -> Tenant:
    tenant, tier = claims.get("sub"), claims.get("tier")
    if not isinstance(tenant, str) or not TENANT_ID.fullmatch(tenant) or not isinstance(tier, str):
        raise TokenRefused("The token does not name a tenant and its tier.")
    return Tenant(tenant, tier)
