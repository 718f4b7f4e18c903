"""Signed tokens: what is believed, and what is not."""

from __future__ import annotations

import base64
import json

import pytest

from jobs.request import Tenant
from serve_app.tokens import TokenRefused, looks_like_a_token, mint, verify

NOW = 1_000_000.0
OLD, NEW = b"o" * 32, b"n" * 32
SECRETS = {"new": NEW, "old": OLD}
ADA = Tenant("ada@example.org", "free")


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def spoiled(token: str, index: int, document: object) -> str:
    parts = token.split(".")
    parts[index] = part(document)
    return ".".join(parts)


def test_a_token_speaks_for_its_tenant_until_it_expires() -> None:
    token = mint(ADA, NOW + 10, "new", NEW)
    assert looks_like_a_token(token)
    assert verify(token, SECRETS, NOW) == ADA
    with pytest.raises(TokenRefused, match="expired"):
        verify(token, SECRETS, NOW + 10)


def test_an_old_secret_is_believed_until_it_is_taken_away() -> None:
    token = mint(ADA, NOW + 10, "old", OLD)
    assert verify(token, SECRETS, NOW) == ADA
    with pytest.raises(TokenRefused, match="not signed by a key that is known"):
        verify(token, {"new": NEW}, NOW)
    with pytest.raises(TokenRefused, match="signature is wrong"):
        verify(token, {"old": NEW}, NOW)


GOOD = mint(ADA, NOW + 10, "new", NEW)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (spoiled(GOOD, 1, {"sub": "bob", "tier": "pro", "exp": NOW + 10}), "signature is wrong"),
        (spoiled(GOOD, 0, {"alg": "none", "kid": "new"}), "not signed by a key"),
        (spoiled(GOOD, 0, {"alg": "HS256"}), "not signed by a key"),
        (spoiled(GOOD, 0, {"alg": "HS256", "kid": ["new"]}), "not signed by a key"),
        (spoiled(GOOD, 0, ["HS256"]), "malformed"),
        (GOOD[:-4], "signature is wrong"),
        (GOOD[: GOOD.rindex(".") + 1], "signature is wrong"),
        ("..", "malformed"),
        ("ä.ö.ü", "malformed"),
        (GOOD.replace(".", ".!", 1), "malformed"),
        (GOOD + "x" * 5000, "too long"),
    ],
)
def test_what_was_tampered_with_is_refused(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        verify(token, SECRETS, NOW)


@pytest.mark.parametrize(
    "claims",
    [
        {"tier": "free", "exp": NOW + 10},
        {"sub": "ada", "exp": NOW + 10},
        {"sub": "ada", "tier": "free"},
        {"sub": "ada", "tier": "free", "exp": "tomorrow"},
        {"sub": "ada", "tier": "free", "exp": True},
        {"sub": "ada", "tier": "free", "exp": float("nan")},
        {"sub": "a\x00da", "tier": "free", "exp": NOW + 10},
        {"sub": "", "tier": "free", "exp": NOW + 10},
        {"sub": 7, "tier": "free", "exp": NOW + 10},
    ],
)
def test_a_rightly_signed_token_must_still_say_something(
    claims: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_app import tokens

    header, body = part({"alg": "HS256", "kid": "new"}), part(claims)
    signature = tokens._encode(tokens._signature(f"{header}.{body}", NEW))
    with pytest.raises(TokenRefused):
        verify(f"{header}.{body}.{signature}", SECRETS, NOW)


def test_no_token_is_minted_for_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="tenant"):
        mint(Tenant("a b", "free"), NOW, "new", NEW)
