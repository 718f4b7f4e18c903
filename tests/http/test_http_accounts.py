"""Tenants over HTTP: keys of the ledger, signed tokens, limits and what refusals say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from jobs.request import Tenant
from jobs.sql.accounts import Accounts
from serve_app.__main__ import main
from serve_app.access import auth
from serve_app.access.tokens import mint
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until

SECRET = "an operator's secret of 32 bytes or more"
TIERS: dict[str, Any] = {
    "free": {"images_per_day": 3},
    "rich": {},
    "shut": {"rollout": "off"},
    "narrow": {"queued_jobs": 1},
}
IMAGES = "/v1/images/generations"


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("accounts")
    file = directory / "old-secret"
    file.write_text("the secret of last month, in a file\n")
    settings = config(
        tiers=TIERS,
        keys=[{"key": "sk-local", "tenant": "local", "tier": "rich"}],
        signing=[{"id": "new", "secret": SECRET}, {"id": "old", "file": str(file)}],
        quota={"time_zone": "Europe/Berlin"},
        limits={},
    )
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgres").database())
        yield stack.enter_context(stage(directory, settings, url))


@pytest.fixture
def accounts(shared: Stage) -> Accounts:
    return shared.ledger.accounts


@pytest.fixture(scope="module")
def http(shared: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, timeout=60) as made:
        yield made


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def token(tenant: str, tier: str = "free", seconds: float = 60, key_id: str = "new") -> str:
    secret = SECRET if key_id == "new" else "the secret of last month, in a file"
    return mint(Tenant(tenant, tier), time.time() + seconds, key_id, secret.encode())


def draw(http: httpx.Client, key: str, **body: Any) -> httpx.Response:
    return http.post(IMAGES, json={"prompt": "a red fox", **body}, headers=bearer(key))


# Who asks


@pytest.mark.parametrize("key_id", ["new", "old"])
def test_a_signed_token_is_all_that_a_new_tenant_needs(
    shared: Stage, http: httpx.Client, key_id: str
) -> None:
    tenant = f"new-{key_id}"
    before = shared.rows()["tenants"]
    with openai.OpenAI(
        base_url=f"{shared.url}/v1", api_key=token(tenant, key_id=key_id), max_retries=0
    ) as client:
        assert client.models.list().data[0].id == "test-model"
        assert shared.rows()["tenants"] == before, "only its first job writes a tenant down"
        answer = client.images.generate(prompt="a red fox", response_format="url")
    assert shared.rows()["tenants"] == before + 1
    assert answer.data is not None
    assert httpx.get(str(answer.data[0].url)).status_code == 200, "its URL opens without the token"


@pytest.mark.parametrize(
    ("key", "code", "reason"),
    [
        (token("ada", seconds=-1), "invalid_token", "expired"),
        (token("ada", tier="gone", seconds=3600), "unknown_tier", "'gone'"),
        (token("ada", seconds=3600) + "x", "invalid_token", "wrong"),
        ("a.b.c", "invalid_token", "malformed"),
        ("sk-mp-unknown", "invalid_api_key", "Incorrect API key"),
    ],
)
def test_an_unknown_client_is_told_why(
    shared: Stage, http: httpx.Client, key: str, code: str, reason: str
) -> None:
    before = shared.rows()
    got = draw(http, key)
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (401, code)
    assert reason in error["message"]
    assert shared.rows() == before


def test_a_key_of_the_ledger_works_and_stops_within_seconds(
    shared: Stage, http: httpx.Client, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.02)

    def status(key: str) -> int:
        return http.get("/v1/jobs", headers=bearer(key)).status_code

    def until(key: str, wanted: int) -> None:
        wait_until(lambda: status(key) == wanted, f"{wanted}")

    key = accounts.create("grace", "free")
    until(key, 200)
    fresh = accounts.rotate(accounts.keys("grace")[0].prefix)
    until(key, 401)
    until(fresh, 200)
    accounts.revoke(accounts.keys("grace")[0].prefix)
    until(fresh, 401)


def test_known_and_unknown_keys_cost_no_look_up(
    shared: Stage, http: httpx.Client, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 600.0)
    looked: list[str] = []
    asked = shared.gateway_ledger.key_owner

    async def counted(hashed: str) -> Any:
        looked.append(hashed)
        return await asked(hashed)

    monkeypatch.setattr(shared.gateway_ledger, "key_owner", counted)
    key = accounts.create("heidi", "free")
    for _ in range(3):
        assert http.get("/v1/jobs", headers=bearer(key)).status_code == 200
        assert http.get("/v1/jobs", headers=bearer("sk-mp-no")).status_code == 401
        assert http.get("/v1/jobs", headers=bearer("sk-local")).status_code == 200
        assert http.get("/v1/jobs", headers=bearer(token("x"))).status_code == 200
    assert len(looked) == len(set(looked)) <= 2


# Limits


def test_answers_say_what_is_left(shared: Stage, http: httpx.Client) -> None:
    key = token("bob")
    first = draw(http, key)
    assert first.headers["x-ratelimit-limit-images"] == "3"
    assert first.headers["x-ratelimit-remaining-images"] == "2"
    assert first.headers["x-ratelimit-reset-images"].endswith("s")
    streamed = draw(http, key, stream=True)
    assert streamed.headers["x-ratelimit-remaining-images"] == "1"
    limits = http.get("/v1/limits", headers=bearer(key))
    body = limits.json()
    assert (body["tenant"], body["tier"], body["open"]) == ("bob", "free", True)
    day = body["images_per_day"]
    assert (day["limit"], day["used"], day["remaining"]) == (3, 2, 1)
    assert 0 < day["resets_at"] - time.time() <= 25 * 3600
    assert limits.headers["x-ratelimit-remaining-images"] == "1"
    assert body["queued_jobs"] == {"limit": None, "used": 0, "remaining": None}
    assert "x-ratelimit-limit-images" not in draw(http, "sk-local").headers


def test_used_up_says_when_the_day_turns(shared: Stage, http: httpx.Client) -> None:
    key = token("carol")
    assert draw(http, key, n=3).status_code == 200
    with (
        openai.OpenAI(base_url=f"{shared.url}/v1", api_key=key, max_retries=2) as client,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        client.images.generate(prompt="one more")
    headers = refused.value.response.headers
    assert refused.value.code == "insufficient_quota"
    assert headers["x-should-retry"] == "false"
    assert headers["x-ratelimit-remaining-images"] == "0"
    assert 0 < int(headers["retry-after"]) <= 25 * 3600
    assert len(shared.jobs("carol")) == 1


def test_more_than_a_day_has_is_refused_without_a_time(shared: Stage, http: httpx.Client) -> None:
    got = draw(http, token("dave"), n=4)
    assert (got.status_code, got.json()["error"]["param"]) == (429, "n")
    assert "retry-after" not in got.headers
    assert got.headers["x-should-retry"] == "false"


def test_a_shut_tier_says_so_and_writes_nothing(shared: Stage, http: httpx.Client) -> None:
    before = shared.rows()
    got = draw(http, token("erin", tier="shut"))
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (403, "not_yet_open")
    assert "not yet open for your account" in error["message"]
    assert shared.rows() == before
    limits = http.get("/v1/limits", headers=bearer(token("erin", tier="shut")))
    assert limits.json()["open"] is False


def test_a_full_queue_says_when_a_place_is_free(shared: Stage, http: httpx.Client) -> None:
    shared.worker.pause()
    key = token("frank", tier="narrow")
    headers = {**bearer(key), "prefer": "respond-async"}
    try:
        first, got = (
            http.post(IMAGES, json={"prompt": "a fox"}, headers=headers) for _ in range(2)
        )
        assert (first.status_code, got.status_code) == (202, 429)
        assert got.json()["error"]["code"] == "rate_limit_exceeded"
        assert got.json()["error"]["type"] == "requests"
        assert int(got.headers["retry-after"]) >= 1
        assert len(shared.jobs("frank")) == 1
    finally:
        shared.worker.resume()


# What comes in comes back


@pytest.mark.parametrize(
    "prompt",
    [
        "'; drop table jobs; -- \"",
        "%s %(x)s :name ? $1 \\' \\x00 \\u0000",
        "🦊" * 8000,
        "é" * 32_000,
        "a\tb\r\nc\u2028\u200e\u0007 مرحبا 👩‍👩‍👧‍👦",
        "\ufffe\uffff\U0010ffff",
    ],
    ids=["sql", "placeholders", "emoji", "32000", "controls", "edges"],
)
def test_any_text_is_kept_as_it_is(shared: Stage, http: httpx.Client, prompt: str) -> None:
    key = f"'\";--{len(prompt)}"
    headers = {**shared.headers, "prefer": "respond-async", "idempotency-key": key}
    body = json.dumps({"prompt": prompt, "user": prompt[:512]})
    made = http.post(IMAGES, content=body, headers=headers)
    assert made.status_code == 202
    job = http.get(f"/v1/jobs/{made.json()['id']}", headers=headers).json()
    assert job["prompt"] == prompt
    assert shared.jobs()[0].request.user == prompt[:512]
    again = http.post(IMAGES, content=body, headers=headers)
    assert again.json()["id"] == job["id"], "the key is kept as it is, too"


@pytest.mark.parametrize("field", ["prompt", "user", "safety_identifier"])
@pytest.mark.parametrize("text", ["a\\u0000b", "a\\ud800b", "\\udc00"])
def test_what_no_database_keeps_is_refused(
    shared: Stage, http: httpx.Client, field: str, text: str
) -> None:
    before = shared.rows()
    document = {"prompt": '"a fox"', field: f'"{text}"'}
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in document.items()) + "}"
    got = http.post(IMAGES, content=body, headers=shared.headers)
    assert (got.status_code, got.json()["error"]["param"]) == (400, field)
    assert shared.rows() == before


# The command line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    args = {
        "ledger": {"dsn": f"sqlite:///{tmp_path}/ledger.db"},
        "tiers": TIERS,
        "signing": [{"id": "new", "secret": SECRET}],
    }
    document = {"applications": [{"import_path": "serve_app.app:build", "args": args}]}
    path = tmp_path / "meltproof.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_keys_are_made_listed_rotated_and_revoked(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keys(*arguments: str) -> str:
        assert main(["keys", *arguments, "--config", str(file)]) == 0
        return capsys.readouterr().out.strip()

    key = keys("create", "ada", "--tier", "rich")
    listed = keys("list")
    assert key not in listed
    prefix = key[:14]
    (line,) = listed.splitlines()[1:]  # a pipe gets a line for each, however long
    assert line.split()[:3] == [f"{prefix}...", "ada", "rich"]
    other = keys("rotate", prefix)
    assert other != key
    keys("revoke", other[:14])
    assert keys("list", "bob").count("\n") == 0
    assert main(["keys", "revoke", other[:14], "--config", str(file)]) == 1
    assert other[:14] in capsys.readouterr().err


def test_a_minted_token_opens(
    shared: Stage, http: httpx.Client, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["keys", "token", "ivan", "--days", "1", "--config", str(file)]
    assert main(arguments) == 0
    minted = capsys.readouterr().out.strip()
    assert draw(http, minted).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "ada", "--tier", "gold"], "unknown tier 'gold'"),
        (["create", "a da"], "TENANT"),
        (["token", "ada", "--tier", "gold"], "unknown tier 'gold'"),
        (["list", "--application", "none"], "there is no 'none'"),
    ],
)
def test_wrong_arguments_are_named(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["keys", *arguments, "--config", str(file)]) == 2
    assert words in capsys.readouterr().err
