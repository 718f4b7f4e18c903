"""Signed tokens: what is believed, and what is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from jobs.request import Tenant
from serve_app.access.tokens import TokenRefused, looks_like_a_token, mint, verify

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
        (spoiled(GOOD, 0, {"alg": "none", "kid": "new"}), "algorithm"),
        (spoiled(GOOD, 0, {"alg": "HS256"}), "not signed by a key"),
        (spoiled(GOOD, 0, {"alg": "HS256", "kid": ["new"]}), "malformed"),
        (spoiled(GOOD, 0, ["HS256"]), "malformed"),
        (GOOD[:-4], "signature is wrong"),
        (GOOD[: GOOD.rindex(".") + 1], "signature is wrong"),
        ("..", "malformed"),
        ("ä.ö.ü", "malformed"),
        (GOOD.replace(".", ".!", 1), "malformed"),
        (GOOD + "x" * 20_000, "too long"),
    ],
)
def test_what_was_tampered_with_is_refused(token: str, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        verify(token, SECRETS, NOW)


FULL = {"sub": "ada", "tier": "free", "exp": NOW + 10}


def signed(claims: object, **header: object) -> str:
    """By another program than ours; `claims` may be JSON already."""
    text = claims if isinstance(claims, str) else json.dumps(claims)
    body = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    said = f"{part({'alg': 'HS256', 'kid': 'new', **header})}.{body}"
    digest = hmac.new(NEW, said.encode(), hashlib.sha256).digest()
    return f"{said}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def test_tokens_of_other_programs_are_believed() -> None:
    more = {"iat": NOW + 30, "nbf": NOW + 30.5, "iss": "sign-up", "jti": "1", "own": [1]}
    for token in (signed(FULL), signed(FULL | more, typ="at+jwt", own="x")):
        assert verify(token, SECRETS, NOW) == Tenant("ada", "free")
    made_before = (
        "eyJhbGciOiJIUzI1NiIsImtpZCI6Im5ldyIsInR5cCI6IkpXVCJ9"
        ".eyJzdWIiOiJhZGFAZXhhbXBsZS5vcmciLCJ0aWVyIjoiZnJlZSIsImV4cCI6MTAwMDAxMH0"
        ".4zRS2pxwAwko8XC-ATnmM5MpZXHeYpK1Sq_iSgTltVs"
    )
    assert verify(made_before, SECRETS, NOW) == ADA


@pytest.mark.parametrize(
    "claims",
    [
        {name: value for name, value in FULL.items() if name != "sub"},
        {name: value for name, value in FULL.items() if name != "tier"},
        {name: value for name, value in FULL.items() if name != "exp"},
        *(
            FULL | {"exp": wrong}
            for wrong in ("tomorrow", True, None, [], float("nan"), float("inf"), -1, NOW)
        ),
        *(FULL | {"nbf": wrong} for wrong in (NOW + 86_400, "x", True, None, float("-inf"))),
        *(FULL | {"iat": wrong} for wrong in (NOW + 86_400, "x", True, float("nan"))),
        *(FULL | {"aud": wrong} for wrong in ("elsewhere", ["elsewhere"], "", [], 7, {})),
        *(FULL | {"sub": wrong} for wrong in ("a\x00da", "", 7, None, "ada\n", "a" * 129)),
        *(FULL | {"tier": wrong} for wrong in (7, None, ["free"])),
        '{"sub": "ada", "tier": "free", "exp": 1e999}',
        "[" * 1000,
        "[]",
        "null",
        "",
    ],
)
def test_a_rightly_signed_token_must_still_say_something(claims: object) -> None:
    with pytest.raises(TokenRefused):
        verify(signed(claims), SECRETS, NOW)


def test_no_one_else_says_what_must_be_understood() -> None:
    for crit in (["exp"], ["b64"], ["own"], [], "b64", None):
        with pytest.raises(TokenRefused):
            verify(signed(FULL, crit=crit, b64=True, own=1), SECRETS, NOW)


@pytest.mark.parametrize("alg", ["none", "HS512", "RS256", "hs256", "", None, 7, ["HS256"]])
def test_the_token_does_not_choose_its_algorithm(alg: object) -> None:
    with pytest.raises(TokenRefused):
        verify(signed(FULL, alg=alg), SECRETS, NOW)


def test_where_an_audience_is_configured_tokens_are_for_it() -> None:
    mine = {"new": "images"}
    for aud in ("images", ["images"], ["mail", "images"]):
        assert verify(signed(FULL | {"aud": aud}), SECRETS, NOW, mine) == Tenant("ada", "free")
    for claims in (FULL, *(FULL | {"aud": aud} for aud in ("mail", ["mail"], "", [], None, 7))):
        with pytest.raises(TokenRefused, match="audience"):
            verify(signed(claims), SECRETS, NOW, mine)
    assert verify(mint(ADA, NOW + 10, "new", NEW, "images"), SECRETS, NOW, mine) == ADA


def test_only_some_keys_vouch_for_operators() -> None:
    root = Tenant("root", "free", "operator")
    for token in (mint(root, NOW + 10, "new", NEW), signed(FULL | {"role": "operator"})):
        assert verify(token, SECRETS, NOW, operators={"new"}).role == "operator"
        with pytest.raises(TokenRefused, match="operators"):
            verify(token, SECRETS, NOW, operators={"old"})
    for role in ("authenticated", "Operator", ["operator"], None, 7):
        assert verify(signed(FULL | {"role": role}), SECRETS, NOW, operators={"new"}) == (
            Tenant("ada", "free")
        )


def test_no_token_is_minted_for_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="tenant"):
        mint(Tenant("a b", "free"), NOW, "new", NEW)
