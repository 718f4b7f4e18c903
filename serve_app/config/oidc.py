"""Which OpenID Connect issuers are believed, and what their tokens' claims mean here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic.functional_validators import AfterValidator

from serve_app.config.sections import Section

MOST_LEEWAY_SECONDS = 300
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"
]
"""Signed with a private key that the issuer alone has. `none` and HS256 are not among them."""


def a_trusted_url(text: str) -> str:
    """https, or http on this machine: what is behind it decides which tokens are believed. Raises
    ValueError."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if url.scheme not in ("https", "http") or not host or not text.isascii() or " " in text:
        raise ValueError("must be a URL such as https://login.example.com")
    if url.scheme == "http" and not _on_loopback(host):
        raise ValueError("must begin with https://; http:// is for this machine's own names alone")
    if url.username is not None or url.query or url.fragment or text[-1] in "?#":
        raise ValueError("must not have a user, a query or a fragment")
    return text


def _on_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


TrustedUrl = Annotated[str, AfterValidator(a_trusted_url)]
Claim = Annotated[str, Field(min_length=1)]
"""A claim's name; of one inside of another `realm_access.roles`."""


class OidcSection(Section):
    """An issuer. Its keys are found by its discovery document, and kept while it is away."""

    issuer: TrustedUrl
    """Exactly as its tokens say it (`iss`), with or without a slash at the end."""
    audience: Annotated[str, Field(min_length=1)]
    """What its tokens must name (`aud`): this service, not the page that signs users in."""
    jwks_url: TrustedUrl | None = None
    """Where its keys are, for one without a discovery document."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(strict=False, min_length=1)] = ("RS256",)
    leeway_seconds: Annotated[int, Field(ge=0, le=MOST_LEEWAY_SECONDS)] = 60
    """So far may its clock be off, either way."""
    tenant_claim: Claim = "sub"
    tenant_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@|+-]{0,32}$")] = ""
    """Stands before the claim, so that two issuers' users are never one tenant."""
    tier_claim: Claim | None = None
    """A text, or a list of texts."""
    tiers: dict[str, str] = {}
    """By value of that claim, the first that fits in this order; empty: values are tiers."""
    tier: str | None = None
    """Of tokens whose claim says nothing that is known; null refuses them."""
    operator_claim: Claim | None = None
    operators: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Values of that claim that make an operator."""

    @model_validator(mode="after")
    def _says_a_tier(self) -> Self:
        if self.tier_claim is None and self.tier is None:
            raise ValueError("tier: is missing; give tier, tier_claim or both")
        if self.tiers and self.tier_claim is None:
            raise ValueError("tier_claim: is missing, tiers says what its values mean")
        if (self.operator_claim is None) != (not self.operators):
            raise ValueError("operators: give both operator_claim and operators, or neither")
        return self


class AuthSection(Section):
    """What is believed beside keys and tokens of our own."""

    oidc: Annotated[tuple[OidcSection, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for number, one in enumerate(self.oidc):
            for other in self.oidc[:number]:
                if one.issuer == other.issuer:
                    raise ValueError(f"oidc.{number}.issuer: the same issuer appears twice")
                if one.tenant_prefix == other.tenant_prefix:
                    raise ValueError(
                        f"oidc.{number}.tenant_prefix: is that of {other.issuer}, too: users of "
                        "both with the same name would be one tenant"
                    )
        return self

    def unknown_tiers(self, known: Collection[str]) -> Iterator[str]:
        """What names tiers that there are not."""
        for number, one in enumerate(self.oidc):
            named = {f"tiers.{value}": tier for value, tier in one.tiers.items()}
            for field, tier in (named | {"tier": one.tier}).items():
                if tier is not None and tier not in known:
                    yield (
                        f"oidc.{number}.{field}: unknown tier {tier!r}, "
                        f"known: {', '.join(sorted(known))}"
                    )
