"""Tokens of OpenID Connect issuers: checked without asking the issuer, and what they say here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jobs.request import Tenant
from serve_app.access.issuer_keys import IssuerKeys, read_keys
from serve_app.access.tokens import (
    TENANT_ID,
    TokenRefused,
    UnknownTier,
    check_audience,
    check_times,
    decoded,
    headers_of,
)
from serve_app.config.oidc import OidcSection


class Issuer:
    """One that is believed: what a config says of it, and its keys."""

    def __init__(self, section: OidcSection, keys: IssuerKeys) -> None:
        self.section, self.keys = section, keys

    async def tenant(self, token: str, key_id: object, now: float) -> Tenant:
        """The token's tenant. key_id: as the token says, unchecked. Raises TokenRefused and
        KeysUnread."""
        section = self.section
        key = await self.keys.key(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise TokenRefused("The token is not signed by a key that its issuer has.")
        read = decoded(token, lambda _: key, headers_of(section.algorithms))
        check_times(read.claims, now, section.leeway_seconds)
        check_audience(read.claims, section.audience)
        return tenant_of_claims(read.claims, section)


Issuers = Mapping[str, Issuer]
"""By what their tokens say as `iss`."""


def issuers(sections: Sequence[OidcSection], before: Issuers) -> Issuers:
    """All that are believed. before: those of an earlier config, whose keys stay known."""
    return {one.issuer: Issuer(one, _keys(one, before.get(one.issuer))) for one in sections}


def _keys(section: OidcSection, before: Issuer | None) -> IssuerKeys:
    if before is not None and before.section.jwks_url == section.jwks_url:
        return before.keys
    return IssuerKeys(section.issuer, partial(read_keys, section.issuer, section.jwks_url))


def tenant_of_claims(claims: Mapping[str, Any], section: OidcSection) -> Tenant:
    """Whom they speak for. Raises TokenRefused and UnknownTier."""
    named = _claim(claims, section.tenant_claim)
    tenant = f"{section.tenant_prefix}{named}" if isinstance(named, str) and named else ""
    if not TENANT_ID.fullmatch(tenant):
        raise TokenRefused(f"The token does not name a tenant ({section.tenant_claim}).")
    operates = not _texts(claims, section.operator_claim).isdisjoint(section.operators)
    return Tenant(tenant, _tier(claims, section), "operator" if operates else "tenant")


def _tier(claims: Mapping[str, Any], section: OidcSection) -> str:
    said = _texts(claims, section.tier_claim)
    for value, tier in section.tiers.items():
        if value in said:
            return tier
    if not section.tiers and len(said) == 1:
        return next(iter(said))
    if section.tier is None:
        raise UnknownTier(f"The token names no tier that is known here ({section.tier_claim}).")
    return section.tier


def _texts(claims: Mapping[str, Any], name: str | None) -> frozenset[str]:
    """The texts of a claim, which may be one or a list."""
    value = _claim(claims, name) if name else None
    listed = value if isinstance(value, list) else [value]
    return frozenset(one for one in listed if isinstance(one, str))


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """By its whole name, which may be a URL, or by its path."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
