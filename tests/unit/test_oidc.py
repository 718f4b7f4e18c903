"""OpenID Connect without an issuer: what configs may say, which keys are used, what claims mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from jobs.request import Tenant
from serve_app.__main__ import main
from serve_app.access.issuer_keys import NotAnIssuer, usable_keys
from serve_app.access.oidc import tenant_of_claims
from serve_app.access.tokens import TokenRefused, UnknownTier, decoded, headers_of
from serve_app.config.cluster import parse_cluster_config
from serve_app.config.errors import ConfigError
from serve_app.config.oidc import OidcSection

URL = "https://login.example.com/realms/x/"


def section(**changes: Any) -> dict[str, Any]:
    return {"issuer": URL, "audience": "images", "tier": "free", **changes}


def parsed(*sections: dict[str, Any]) -> Any:
    return parse_cluster_config({"auth": {"oidc": list(sections)}})


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"issuer": "http://login.example.com"}, "issuer", "must begin with https://"),
        ({"issuer": "http://localhost.example.com"}, "issuer", "must begin with https://"),
        ({"issuer": "http://10.0.0.1"}, "issuer", "must begin with https://"),
        ({"issuer": "login.example.com"}, "issuer", "must be a URL"),
        ({"issuer": "ftp://login.example.com"}, "issuer", "must be a URL"),
        ({"issuer": "https://"}, "issuer", "must be a URL"),
        ({"issuer": "https://[::1"}, "issuer", "is not a URL"),
        ({"issuer": "https://login.example.com:port"}, "issuer", "is not a URL"),
        ({"issuer": "https://ada:pw@login.example.com"}, "issuer", "must not have a user"),
        ({"issuer": "https://login.example.com?x=1"}, "issuer", "must not have"),
        ({"issuer": "https://login.example.com/#"}, "issuer", "must not have"),
        ({"jwks_url": "http://login.example.com/jwks"}, "jwks_url", "must begin with https://"),
        ({"audience": ""}, "audience", "at least 1"),
        ({"algorithms": ["HS256"]}, "algorithms.0", "should be"),
        ({"algorithms": ["none"]}, "algorithms.0", "should be"),
        ({"algorithms": []}, "algorithms", "at least 1"),
        ({"leeway_seconds": 301}, "leeway_seconds", "less than or equal to 300"),
        ({"leeway_seconds": -1}, "leeway_seconds", "greater than or equal to 0"),
        ({"tenant_prefix": "a b"}, "tenant_prefix", "match"),
        ({"tier": "gold"}, "tier", "unknown tier 'gold', known: free"),
        ({"tier_claim": "plan", "tiers": {"a": "gold"}}, "tiers.a", "unknown tier 'gold'"),
        ({"tier": None}, "tier", "is missing"),
        ({"tiers": {"a": "free"}}, "tier_claim", "is missing"),
        ({"operator_claim": "roles"}, "operators", "give both"),
        ({"operators": ["admin"]}, "operators", "give both"),
        ({"client_secret": "x"}, "client_secret", "unknown key"),
    ],
)
def test_a_wrong_section_is_refused_by_its_field(
    changes: dict[str, Any], field: str, why: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(section(**changes))
    assert str(refused.value).startswith(f"args: auth.oidc.0.{field}")
    assert why in str(refused.value)


def test_issuers_are_apart() -> None:
    other = {"issuer": "https://other.example.com"}
    with pytest.raises(ConfigError, match=r"auth.oidc.1.issuer: .* twice"):
        parsed(section(), section(tenant_prefix="b:"))
    with pytest.raises(ConfigError, match=r"auth.oidc.1.tenant_prefix: .* one tenant"):
        parsed(section(), section(**other))
    assert len(parsed(section(), section(**other, tenant_prefix="b:")).auth.oidc) == 2


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://127.0.0.2", "http://[::1]:1/x"])
def test_this_machine_may_speak_plainly(url: str) -> None:
    assert parsed(section(issuer=url)).auth.oidc[0].issuer == url


def test_check_names_line_and_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    document["applications"][0]["args"]["auth"] = {"oidc": [section(tier="gold")]}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(document))
    assert main(["check", str(file)]) == 1
    said = capsys.readouterr()
    assert "applications.0.args.auth.oidc.0.tier: unknown tier 'gold'" in said.out + said.err


def test_keys_that_do_not_sign_are_left_out() -> None:
    rsa, ec = RSAKey.generate_key(2048, {"kid": "rsa"}), ECKey.generate_key("P-256", {"kid": "ec"})
    okp = OKPKey.generate_key("Ed25519", {"kid": "okp"})
    public = [key.as_dict(private=False) for key in (rsa, ec, okp)]
    others = [
        OctKey.generate_key(256, {"kid": "oct"}).as_dict(private=True),
        public[0] | {"kid": "for-encryption", "use": "enc"},
        {name: value for name, value in public[0].items() if name != "kid"},
        public[0] | {"kid": 7},
        {"kty": "RSA", "kid": "broken"},
        {"kty": "AKP", "kid": "new"},
        public[1] | {"kid": "rsa"},  # the first of a name is it
        "nothing",
    ]
    keys = usable_keys({"keys": [*public, *others]})
    assert keys.keys() == {"rsa", "ec", "okp"}
    for key, algorithm in ((rsa, "PS256"), (ec, "ES256"), (okp, "Ed25519")):
        token = jwt.encode({"alg": algorithm}, {"sub": "ada"}, key, [algorithm])
        found = keys[str(key.kid)]
        assert decoded(token, lambda _: found, headers_of([algorithm])).claims == {"sub": "ada"}  # noqa: B023
        with pytest.raises(TokenRefused):
            decoded(token, lambda _: found, headers_of(["RS256"]))  # noqa: B023
        with pytest.raises(TokenRefused):
            decoded(token, lambda _: keys["rsa" if key is ec else "ec"], headers_of([algorithm]))  # noqa: B023
    for nothing in ({}, {"keys": None}, {"keys": others[:1]}, {"keys": {"kid": public[0]}}):
        with pytest.raises(NotAnIssuer):
            usable_keys(nothing)


@pytest.mark.parametrize(
    ("roles", "role"),
    [
        (["image-admin", "x"], "operator"),
        ("image-admin", "operator"),
        (["x"], "tenant"),
        ([["image-admin"]], "tenant"),
        (None, "tenant"),
        ({"image-admin": 1}, "tenant"),
    ],
)
def test_roles_are_claims(roles: object, role: str) -> None:
    known = OidcSection(
        **section(operator_claim="realm.roles", operators=("image-admin",), tenant_claim="org.id")
    )
    claims = {"org": {"id": "acme"}, "realm": {"roles": roles}}
    assert tenant_of_claims(claims, known).role == role
    whole = {"org.id": "whole", "realm.roles": roles, "realm": []}
    assert tenant_of_claims(whole, known) == Tenant(
        "whole", "free", tenant_of_claims(claims, known).role
    )
    for wrong in ({}, {"org": "acme"}, {"org": {"id": 7}}, {"org": {"id": ""}}):
        with pytest.raises(TokenRefused, match=r"\(org.id\)"):
            tenant_of_claims(wrong, known)


def test_the_first_tier_of_the_mapping_that_fits_is_it() -> None:
    mapped = OidcSection(
        **section(tier=None, tier_claim="groups", tiers={"staff": "pro", "all": "free"})
    )
    assert tenant_of_claims({"sub": "a", "groups": ["all", "staff"]}, mapped).tier == "pro"
    with pytest.raises(UnknownTier):
        tenant_of_claims({"sub": "a", "groups": ["pro"]}, mapped)
    named = OidcSection(**section(tier_claim="plan"))
    for plan, tier in (("pro", "pro"), (["pro"], "pro"), (["pro", "x"], "free"), (None, "free")):
        assert tenant_of_claims({"sub": "a", "plan": plan}, named).tier == tier
