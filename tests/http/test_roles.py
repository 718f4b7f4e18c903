"""Which keys and tokens are an operator's: over HTTP, and as OpenAPI says it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jobs.request import Role, Tenant
from serve_app.__main__ import main
from serve_app.access.tokens import mint
from serve_app.config.cluster import with_live
from serve_app.config.errors import ConfigError
from serve_app.gateway import adopt
from serve_app.orders.auditing import audited
from serve_app.orders.callers import operator_of
from serve_app.wire.errors import NotFound
from serve_app.wire.operations import OPERATIONS, OPERATOR, operation
from tests.stages.http_stage import Stage, config, stage

OPERATORS, PLAIN = "a secret whose tokens may be operators", "a secret of a mere sign-up service"
WHERE, CHANGE = "/v1/operator/who", "/v1/operator/change/"


async def change(request: Request) -> Response:
    """What only operators may do, and what may go wrong."""
    operator = await operator_of(request)
    what = request.path_params["what"]
    async with audited(request, operator, "change", what):
        if what == "none":
            raise NotFound(code="job_not_found")
        if what == "broken":
            raise RuntimeError
    return JSONResponse({})


async def who(request: Request) -> Response:
    """The operator's name."""
    operator = await operator_of(request)
    return JSONResponse({"id": operator.id, "tier": operator.tier})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    settings = config(
        keys=[
            {"key": "sk-local", "tenant": "local"},
            {"key": "sk-admin", "tenant": "ada", "role": "operator"},
        ],
        signing=[
            {"id": "ours", "secret": OPERATORS, "operators": True},
            {"id": "theirs", "secret": PLAIN},
        ],
    )
    with stage(tmp_path_factory.mktemp("roles"), settings) as made:
        made.app.add_api_route(WHERE, who)
        made.app.add_api_route(CHANGE + "{what}", change, methods=["POST"])
        yield made


def asked(shared: Stage, key: str) -> httpx.Response:
    return httpx.get(f"{shared.url}{WHERE}", headers={"authorization": f"Bearer {key}"})


def token(role: Role, key_id: str) -> str:
    secret = OPERATORS if key_id == "ours" else PLAIN
    return mint(Tenant("ada", "free", role), time.time() + 60, key_id, secret.encode())


def test_keys_and_tokens_carry_a_role(shared: Stage) -> None:
    accounts = shared.ledger.accounts
    operators = ("sk-admin", accounts.create("ada", "free", "operator"), token("operator", "ours"))
    for key in operators:
        assert asked(shared, key).json() == {"id": "ada", "tier": "free"}
    for key in ("sk-local", accounts.create("ada", "free"), token("tenant", "ours")):
        got = asked(shared, key)
        error = got.json()["error"]
        assert got.status_code == 403
        assert (error["code"], error["type"]) == ("operator_required", "invalid_request_error")
    assert asked(shared, "sk-wrong").status_code == 401


def test_a_key_of_the_config_may_stand_in_a_file(shared: Stage, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-from-a-file\n")
    keys = [{"key": "sk-local", "tenant": "local"}, {"file": str(file), "tenant": "filed"}]
    adopt(shared.app, with_live(shared.config, {"keys": keys}))
    try:
        headers = {"authorization": "Bearer sk-from-a-file"}
        assert httpx.get(f"{shared.url}/v1/limits", headers=headers).status_code == 200
        for wrong, why in (("", "a key alone"), ("a b", "a key alone"), ("sk-local", "twice")):
            file.write_text(wrong)
            with pytest.raises(ConfigError, match=rf"keys\.1\.file: .*{why}"):
                with_live(shared.config, {"keys": keys}).tenants_by_key()
        file.unlink()
        with pytest.raises(ConfigError, match=r"keys\.1\.file: .*No such file"):
            adopt(shared.app, with_live(shared.config, {"keys": keys}))
        both = [{"key": "a", "file": "b", "tenant": "x"}]
        with pytest.raises(ConfigError, match=r"keys\.0\.key: leave it out"):
            with_live(shared.config, {"keys": both})
    finally:
        adopt(shared.app, shared.config)


def test_a_rotated_key_stays_an_operators(shared: Stage) -> None:
    accounts = shared.ledger.accounts
    accounts.create("grace", "free", "operator")
    fresh = accounts.rotate(accounts.keys("grace")[0].prefix)
    assert asked(shared, fresh).json()["id"] == "grace"
    assert accounts.keys("grace")[0].role == "operator"


def test_a_sign_up_services_secret_makes_no_operators(shared: Stage) -> None:
    got = asked(shared, token("operator", "theirs"))
    assert (got.status_code, got.json()["error"]["code"]) == (401, "invalid_token")


def test_what_operators_change_over_http_is_logged(shared: Stage) -> None:
    def post(what: str, key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{shared.url}{CHANGE}{what}", headers=headers).status_code

    assert [post(what, "sk-admin") for what in ("job-1", "none", "broken")] == [200, 404, 500]
    assert post("job-2", "sk-local") == 403
    logged = shared.ledger.admin_calls(10, "ada")
    assert [(call.action, call.target, call.outcome) for call in logged] == [
        ("change", "broken", "RuntimeError"),
        ("change", "none", "job_not_found"),
        ("change", "job-1", "done"),
    ]
    assert not any(call.target == "job-2" for call in shared.ledger.admin_calls(100))


def test_openapi_says_that_a_route_is_for_operators() -> None:
    described = operation("getOperator", {}, security=OPERATOR)(who)
    said = OPERATIONS.pop(described)
    assert said["security"] == [{"bearer": ["operator"]}]
    assert {"401", "403"} <= said["responses"].keys()


def test_the_command_makes_keys_and_tokens_of_operators(
    shared: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lane.yaml"

    def written(**signing: object) -> None:
        args = shared.config.model_dump(mode="json", include={"model", "tiers", "keys"})
        args |= {"ledger": {"dsn": shared.database}, "signing": [{"id": "ours", **signing}]}
        application = {"name": "lane", "import_path": "serve_app.app:build", "args": args}
        file.write_text(yaml.safe_dump({"applications": [application]}))

    def made(action: str) -> tuple[int, str]:
        done = main(["keys", action, "root", "--role", "operator", "--config", str(file)])
        said = capsys.readouterr()
        return done, (said.out or said.err).strip()

    written(secret=OPERATORS, operators=True)
    for action in ("create", "token"):
        done, key = made(action)
        assert done == 0
        assert asked(shared, key).json()["id"] == "root"
    assert main(["keys", "list", "root", "--config", str(file)]) == 0
    assert "operator" in capsys.readouterr().out
    written(secret=OPERATORS)
    done, said = made("token")
    assert (done, "operators: true" in said) == (2, True), said
