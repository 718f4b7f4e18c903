"""Signed tokens: a tenant and its tier, vouched for by the operator, so that signing up a million
people writes nothing and asking for the first picture needs no look-up.

JSON Web Tokens (RFC 7519) with HMAC-SHA256 and a key id, so that any sign-up service can mint them:
header {"alg": "HS256", "kid": ...}, claims {"sub": tenant, "tier": ..., "exp": seconds}, and where
they are there `nbf`, `iat`, `aud`, and `role` of an operator. Pure; joserfc does the work.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    JoseError,
    MissingClaimError,
    UnsupportedAlgorithmError,
)
from joserfc.jwk import GuestProtocol, Key, OctKey
from joserfc.jws import JWSRegistry, extract_compact

from jobs.request import Tenant

TENANT_ID = re.compile(r"[A-Za-z0-9._:@|+-]{1,128}")
ALGORITHM = "HS256"
CLOCK_SECONDS = 60
"""So far may a minting service's clock be ahead, for `nbf` and `iat`."""
_LONGEST = 16_384
_HEADER_BYTES = 8_192
_HEADERS = JWSRegistry(algorithms=[ALGORITHM], strict_check_header=False)  # RFC 7515 4: ignored


class TokenRefused(Exception):
    """The token is not valid; the message says why, and may be shown."""

    code = "invalid_token"


class UnknownTier(TokenRefused):
    """The token is valid, and its tenant has no tier here."""

    code = "unknown_tier"


def mint(
    tenant: Tenant, expires_at: float, key_id: str, secret: bytes, audience: str | None = None
) -> str:
    """A token that speaks for `tenant` until `expires_at`, seconds since the epoch."""
    if not TENANT_ID.fullmatch(tenant.id):
        raise ValueError(f"a tenant's name is {TENANT_ID.pattern}, not {tenant.id!r}")
    claims: dict[str, Any] = {"sub": tenant.id, "tier": tenant.tier, "exp": int(expires_at)}
    if tenant.role == "operator":
        claims["role"] = tenant.role
    if audience is not None:
        claims["aud"] = audience
    return jwt.encode({"alg": ALGORITHM, "kid": key_id}, claims, _key(secret), [ALGORITHM])


def looks_like_a_token(bearer: str) -> bool:
    """Whether it has the three parts of one; no API key does."""
    return bearer.count(".") == 2


def verify(
    token: str,
    secrets: Mapping[str, bytes],
    now: float,
    audiences: Mapping[str, str] | None = None,
    operators: Collection[str] = (),
) -> Tenant:
    """The token's tenant. secrets: by key id. audiences: by key id, what its tokens must
    name; where there is none, a token for an audience is refused. operators: ids of the keys
    whose tokens may carry the role of one. Raises TokenRefused."""
    read = decoded(token, lambda given: _known(given, secrets), _HEADERS)
    check_times(read.claims, now, CLOCK_SECONDS)
    if read.claims["exp"] <= now:  # the clock that mints is ours to set
        raise TokenRefused("The token has expired.")
    check_audience(read.claims, (audiences or {}).get(read.header["kid"]))
    return _tenant(read.claims, may_operate=read.header["kid"] in operators)


def unchecked(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, to find out which key would have signed them. Raises TokenRefused."""
    if len(token) > _LONGEST:
        raise TokenRefused("The token is too long.")
    try:
        read = extract_compact(token.encode(), registry=headers_of(()))
        claims = json.loads(read.payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        raise TokenRefused("The token is malformed.") from None
    header = read.headers()
    return header, claims if isinstance(claims, dict) else {}


def headers_of(algorithms: Sequence[str]) -> JWSRegistry:
    """What tokens of others may have as a header: certificates may stand in it."""
    headers = JWSRegistry(algorithms=algorithms, strict_check_header=False)
    headers.max_header_length = _HEADER_BYTES
    return headers


def decoded(token: str, find: Callable[[GuestProtocol], Key], headers: JWSRegistry) -> jwt.Token:
    """The token, signed by the key that `find` finds, by an algorithm of `headers`. Raises
    TokenRefused."""
    if len(token) > _LONGEST:
        raise TokenRefused("The token is too long.")
    try:
        read = jwt.decode(token, find, registry=headers)
    except BadSignatureError:
        raise TokenRefused("The token's signature is wrong.") from None
    except UnsupportedAlgorithmError:
        raise TokenRefused(
            "The token is signed by an algorithm (alg) that is not used here."
        ) from None
    except (JoseError, ValueError, TypeError, RecursionError):
        raise TokenRefused("The token is malformed.") from None
    if "crit" in read.header:
        raise TokenRefused("The token has critical headers (crit) that are not known here.")
    return read


def _known(given: GuestProtocol, secrets: Mapping[str, bytes]) -> OctKey:
    headers = given.headers()
    secret = secrets.get(str(headers.get("kid")))
    if secret is None or headers.get("alg") != ALGORITHM:
        raise TokenRefused("The token is not signed by a key that is known here.")
    return _key(secret)


@lru_cache(maxsize=64)
def _key(secret: bytes) -> OctKey:
    return OctKey.import_key(secret)


def check_times(claims: dict[str, Any], now: float, leeway_seconds: int) -> None:
    """`exp`, which must be there, `nbf` and `iat`: numbers of seconds, none of them infinite.
    Raises TokenRefused."""
    expiring = jwt.JWTClaimsRegistry(int(now), leeway_seconds, exp={"essential": True})
    try:
        expiring.validate({name: claims[name] for name in ("exp", "nbf", "iat") if name in claims})
    except MissingClaimError:
        raise TokenRefused("The token does not say when it expires (exp).") from None
    except JoseError as error:
        if error.error == "expired_token":
            raise TokenRefused("The token has expired.") from None
        raise TokenRefused(f"The token is not valid now: {error.description}.") from None


def check_audience(claims: dict[str, Any], audience: str | None) -> None:
    """`aud` names it; without one, none. Raises TokenRefused."""
    if audience is None:
        if claims.get("aud") is not None:
            raise TokenRefused("The token is for another audience (aud).")
        return
    try:
        wanted = jwt.JWTClaimsRegistry(aud={"essential": True, "value": audience})
        wanted.validate({"aud": claims.get("aud")})
    except JoseError:
        raise TokenRefused("The token is for another audience (aud).") from None


def _tenant(claims: dict[str, Any], *, may_operate: bool) -> Tenant:
    tenant, tier = claims.get("sub"), claims.get("tier")
    if not isinstance(tenant, str) or not TENANT_ID.fullmatch(tenant) or not isinstance(tier, str):
        raise TokenRefused("The token does not name a tenant and its tier.")
    if claims.get("role") != "operator":  # a minting service may have other roles for others
        return Tenant(tenant, tier)
    if not may_operate:
        raise TokenRefused("The key that signs this token may not name operators (role).")
    return Tenant(tenant, tier, "operator")
