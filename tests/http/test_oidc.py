"""Tokens of a real OpenID Connect issuer at a gateway, over HTTP: which are taken, as which tenant,
and what happens while the issuer changes its keys or is away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import import_key

from jobs.request import Tenant
from serve_app.access import issuer_keys, oidc
from serve_app.access.tokens import mint
from serve_app.gateway import adopt
from tests.stages.http_stage import Stage, config, stage
from tests.stages.issuer import RealIssuer, require_issuer
from tests.stages.ledger_kit import wait_until

FETCHES: list[str] = []
"""Every time that the issuer's keys were read."""
GATE = threading.Event()
"""While it is not set, a read does not come back."""


@pytest.fixture(scope="module", autouse=True)
def counted() -> Iterator[None]:
    read = oidc.read_keys

    def reading(issuer: str, jwks_url: str | None) -> issuer_keys.Keys:
        FETCHES.append(issuer)
        assert GATE.wait(60)
        return read(issuer, jwks_url)

    GATE.set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oidc, "read_keys", reading)
        yield


@pytest.fixture(scope="module")
def issuer() -> Iterator[RealIssuer]:
    require_issuer()
    with RealIssuer() as made:
        yield made


def believing(url: str, **changes: Any) -> dict[str, Any]:
    """The section of a config that maps groups to tiers and operators."""
    section = {
        "issuer": url, "audience": "images", "tier_claim": "plan",
        "tiers": {"gold": "poor", "basic": "free"}, "tenant_prefix": "sso:",
        "operator_claim": "realm.roles", "operators": ["image-admin"],
    }  # fmt: skip
    return {"oidc": [section | changes]}


@contextmanager
def gateway(directory: Path, url: str, **changes: Any) -> Iterator[Stage]:
    limits = {"unauthenticated_per_second": 1e6}
    signing = [{"id": "ours", "secret": "s" * 32}]
    settings = config(limits=limits, auth=believing(url, **changes), signing=signing)
    with stage(directory, settings) as made:
        yield made


@pytest.fixture(scope="module")
def shared(issuer: RealIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with gateway(tmp_path_factory.mktemp("oidc"), issuer.url) as made:
        yield made


def ada(issuer: RealIssuer, **changes: Any) -> str:
    return issuer.token(**{"sub": "auth0|ada", "aud": "images", "plan": "gold", **changes})


def asked(shared: Stage, token: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.get(f"{shared.url}/v1/limits", headers=headers, timeout=60)


def refused(shared: Stage, token: str) -> tuple[int, str, str]:
    got = asked(shared, token)
    error = got.json()["error"]
    return got.status_code, error["code"], error["message"]


# Which are taken


def test_claims_say_tenant_tier_and_role(shared: Stage, issuer: RealIssuer) -> None:
    assert asked(shared, ada(issuer)).json()["tier"] == "poor"
    listed = ada(issuer, plan=["other", "basic"], aud=["mail", "images"])
    assert asked(shared, listed).json()["tier"] == "free"
    body = {"prompt": "a red fox"}
    headers = {"authorization": f"Bearer {ada(issuer)}"}
    drawn = httpx.post(f"{shared.url}/v1/images/generations", json=body, headers=headers)
    assert drawn.status_code == 200
    assert [job.request.tenant for job in shared.jobs("sso:auth0|ada")] == ["sso:auth0|ada"]


SECONDS_OFF = 55
"""A clock off by a minute, less what the test takes."""


def test_a_clock_may_be_off_by_a_minute(shared: Stage, issuer: RealIssuer) -> None:
    now = int(time.time())
    for claims in (
        {"exp": now - SECONDS_OFF},
        {"nbf": now + SECONDS_OFF, "iat": now + SECONDS_OFF},
    ):
        assert asked(shared, ada(issuer, **claims)).status_code == 200
    for claims, why in (
        ({"exp": now - 70}, "expired"),
        ({"nbf": now + 90}, "not yet valid"),
        ({"iat": now + 90}, "issued in the future"),
    ):
        status, code, message = refused(shared, ada(issuer, **claims))
        assert (status, code) == (401, "invalid_token")
        assert why in message


@pytest.mark.parametrize(
    ("claims", "code", "why"),
    [
        ({"iss": "https://login.example.com"}, "invalid_token", "issuer (iss) is not known"),
        ({"iss": None}, "invalid_token", "issuer (iss) is not known"),
        ({"aud": "mail"}, "invalid_token", "another audience"),
        ({"aud": None}, "invalid_token", "another audience"),
        ({"exp": None}, "invalid_token", "does not say when it expires"),
        ({"exp": "soon"}, "invalid_token", "not valid now"),
        ({"sub": None}, "invalid_token", "does not name a tenant (sub)"),
        ({"sub": "a b"}, "invalid_token", "does not name a tenant (sub)"),
        ({"sub": ["ada"]}, "invalid_token", "does not name a tenant (sub)"),
        ({"plan": "diamond"}, "unknown_tier", "no tier that is known here (plan)"),
        ({"plan": None}, "unknown_tier", "no tier that is known here (plan)"),
        ({"plan": "poor"}, "unknown_tier", "no tier that is known here (plan)"),
    ],
)
def test_a_claim_that_is_wrong_is_told(
    shared: Stage, issuer: RealIssuer, claims: dict[str, Any], code: str, why: str
) -> None:
    status, got, message = refused(shared, ada(issuer, **claims))
    assert (status, got) == (401, code)
    assert why in message


# Which signatures are believed


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def forged(token: str, secret: bytes | None, **header: object) -> str:
    """The same claims with a signature of our own."""
    said = f"{part(header)}.{token.split('.')[1]}"
    digest = hmac.new(secret, said.encode(), hashlib.sha256).digest() if secret else b""
    return f"{said}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def test_no_algorithm_but_the_configured_ones(shared: Stage, issuer: RealIssuer) -> None:
    token = ada(issuer)
    (jwk,) = [
        key for key in httpx.get(f"{issuer.url}/jwks").json()["keys"] if key["kid"] == "first"
    ]
    pem = import_key(jwk).as_pem(private=False)
    der = import_key(jwk).as_der(private=False)
    attempts = [
        forged(token, None, alg="none", kid="first"),
        forged(token, None, alg="None", kid="first"),
        *(forged(token, secret, alg="HS256", kid="first") for secret in (pem, pem.strip(), der)),
        forged(token, b"s" * 32, alg="HS256", kid="ours"),  # our secret signs for no issuer
        forged(token, pem, alg="RS512", kid="first"),
        forged(token, pem, alg="RS256", kid=["first"]),
        forged(token, pem, alg="RS256"),
        token[: token.rindex(".") + 1],
        token[:-8] + "AAAAAAAA",
        forged(token, pem, alg="RS256", kid="first", jwk=jwk, jku="http://localhost:1/jwks"),
    ]
    for attempt in attempts:
        assert refused(shared, attempt)[:2] == (401, "invalid_token"), attempt
    assert asked(shared, token).status_code == 200


def test_tokens_of_our_own_are_believed_beside_them(shared: Stage) -> None:
    ours = mint(Tenant("grace", "free"), time.time() + 60, "ours", b"s" * 32)
    assert asked(shared, ours).json()["tier"] == "free"


# Keys that change, and an issuer that is away


def test_known_keys_cost_no_request_and_a_new_one_costs_one(
    shared: Stage, issuer: RealIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(shared, ada(issuer)).status_code == 200
    before = len(FETCHES)
    assert [asked(shared, ada(issuer)).status_code for _ in range(5)] == [200] * 5
    assert len(FETCHES) == before
    issuer.generate("second")
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 0.0)
    assert asked(shared, ada(issuer, kid="second")).status_code == 200
    assert asked(shared, ada(issuer, kid="first")).status_code == 200
    assert len(FETCHES) == before + 1


def test_a_flood_of_made_up_keys_is_one_request(
    shared: Stage, issuer: RealIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = ada(issuer)
    assert asked(shared, good).status_code == 200
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 0.0)
    before = len(FETCHES)
    GATE.clear()
    try:
        with ThreadPoolExecutor(20) as pool:
            made_up = [forged(good, b"x", alg="RS256", kid=f"no-{n}") for n in range(40)]
            first = pool.submit(refused, shared, made_up[0])
            wait_until(lambda: len(FETCHES) == before + 1, "its keys are asked for")
            monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 3600.0)
            flood = [pool.submit(refused, shared, one) for one in made_up[1:]]
            # the event loop answers others meanwhile, known keys of the issuer among them
            assert asked(shared, good).status_code == 200
            assert asked(shared, "sk-local").status_code == 200
            assert not first.done()
            GATE.set()
            answers = [one.result()[:2] for one in (first, *flood)]
    finally:
        GATE.set()
    assert set(answers) == {(401, "invalid_token")}
    assert refused(shared, forged(good, b"x", alg="RS256", kid="no"))[0] == 401
    assert len(FETCHES) == before + 1


def test_known_keys_stay_while_the_issuer_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_issuer()
    with RealIssuer() as here, gateway(tmp_path, here.url) as running:
        token, port = ada(here), here.port
        here.kill()
        monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 0.0)
        got = asked(running, token)
        assert (got.status_code, got.json()["error"]["code"]) == (503, "issuer_unavailable")
        assert got.headers["retry-after"] == "5"
        with RealIssuer(port) as back:
            token, unknown = ada(back), ada(back, kid="first", header={"kid": "other"})
            assert asked(running, token).status_code == 200
        assert asked(running, token).status_code == 200, "it is away again"
        assert refused(running, unknown)[0] == 401
        adopt(running.app, running.config)  # an edit keeps what is known
        assert asked(running, token).status_code == 200
        # keys that it withdraws stop, once it can be asked
        monkeypatch.setattr(issuer_keys, "REFRESH_SECONDS", 0.0)
        with RealIssuer(port) as renewed:
            fresh = ada(renewed)
            wait_until(lambda: asked(running, fresh).status_code == 200, "its keys are read again")
            assert refused(running, token)[:2] == (401, "invalid_token")


def test_an_issuer_that_calls_itself_otherwise_is_not_believed(
    issuer: RealIssuer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = f"http://127.0.0.1:{issuer.port}"
    with gateway(tmp_path, here, jwks_url=None) as running:
        assert refused(running, ada(issuer, iss=here))[:2] == (503, "issuer_unavailable")
    assert f"its discovery document is of issuer '{issuer.url}'" in caplog.text
    with gateway(tmp_path, here, jwks_url=f"{issuer.url}/jwks") as running:
        assert asked(running, ada(issuer, iss=here)).status_code == 200
    with gateway(tmp_path, here, jwks_url=f"{issuer.url}/none") as running:
        assert refused(running, ada(issuer, iss=here))[0] == 503
    assert "/none answers 404" in caplog.text
