"""Models, variations, errors, headers, and the endpoints that are not offered."""

from __future__ import annotations

from typing import Any

from tests.conformance.clients import Client, Upload
from tests.conformance.row import (
    ALL,
    SDKS,
    Ask,
    Check,
    Does,
    Row,
    both,
    expect,
    fails,
    good,
    pictures,
)

HTTP = ("http",)
FOX: dict[str, Any] = {"prompt": "a red fox", "size": "64x64", "quality": "low", "seed": 7}
GENERATE = Ask("images.generate", FOX)
VARY = Ask("images.create_variation", {"image": Upload("a.png", b"\x89PNG")})
OTHER_KEYS = {"closed": "sk-closed", "poor": "sk-poor", "wrong": "sk-wrong"}
"""closed: its tier is not open yet. poor: two images a day."""


# Models


def _model(client: Client) -> dict[str, Any]:
    (one,) = good(client.call("models.list")).body["data"]
    return dict(one)


def _lists_one(client: Client) -> None:
    expect(_model(client)["object"], "model", "the one model")


def _retrieved(name: str, test: Any) -> Check:
    def check(client: Client) -> None:
        found = good(client.call("models.retrieve", _model(client)["id"])).body
        expect(bool(test(found.get(name))), True, f"{name} of {found}")

    return check


def _not_ours(client: Client) -> None:
    answer = client.call("models.retrieve", "gpt-image-1")
    found = (answer.status, (answer.error or {}).get("code"))
    expect(found, (404, "model_not_found"), "another model")
    alias = good(client.call("models.retrieve", "gpt-image-2")).body
    expect(alias["id"], _model(client)["id"], "the model behind an alias")


def _deletes_model(client: Client) -> None:
    answer = client.call("models.delete", "any")
    found = (answer.status, (answer.error or {}).get("code"))
    expect(found, (405, "method_not_allowed"), "deleting a model")


def _model_row(kind: str, name: str, does: Does, note: str, check: Check) -> Row:
    return Row("models", kind, name, (), does, note, check)


MODELS = [
    _model_row(
        "response",
        "capabilities",
        Does.HONOURED,
        "ours: what requests may say to this model",
        _retrieved("capabilities", lambda v: v["input_images"] >= 0),
    ),
    _model_row(
        "endpoint",
        "GET /v1/models",
        Does.HONOURED,
        "all of the lane, the one meant by requests that name none first",
        _lists_one,
    ),
    _model_row("response", "id", Does.HONOURED, "", _retrieved("id", lambda v: isinstance(v, str))),
    _model_row("response", "created", Does.HONOURED, "", _retrieved("created", lambda v: v > 0)),
    _model_row(
        "response", "object", Does.HONOURED, "", _retrieved("object", lambda v: v == "model")
    ),
    _model_row("response", "owned_by", Does.HONOURED, "", _retrieved("owned_by", bool)),
    _model_row(
        "response",
        "shutdown_date",
        Does.NEVER_SENT,
        "operators decide",
        _retrieved("shutdown_date", lambda v: v is None),
    ),
    _model_row(
        "endpoint",
        "GET /v1/models/{another}",
        Does.REFUSED,
        "404 `model_not_found`, but for aliases",
        _not_ours,
    ),
    _model_row("endpoint", "DELETE /v1/models/{model}", Does.REFUSED, "405", _deletes_model),
]


# Variations


def _variation_row(name: str, values: tuple[str, ...] = (), **fields: Any) -> Row:
    note = "410 `endpoint_retired`, as OpenAI retired it; the message says what to do instead"
    check = fails(VARY, 410, "endpoint_retired", **fields)
    return Row("variations", "parameter", name, values, Does.REFUSED, note, check)


VARIATIONS = [
    _variation_row("image"),
    _variation_row("model", model="dall-e-2"),
    _variation_row("n", n=2),
    _variation_row("response_format", ("url", "b64_json"), response_format="url"),
    _variation_row("size", ("256x256", "512x512", "1024x1024"), size="256x256"),
    _variation_row("user", user="u1"),
]


# Errors


def _error_row(name: str, note: str, check: Check, **more: Any) -> Row:
    return Row("errors", "error", name, (), Does.HONOURED, note, check, **more)


def _raises(kind: str, status: int, code: str, ask: Ask, **fields: Any) -> Check:
    """The SDK raises its class for this status; plain HTTP sees the status."""

    def check(client: Client) -> None:
        answer = ask(client, **fields)
        error = answer.error or {}
        expect((answer.status, error.get("code")), (status, code), f"status and code: {error}")
        if client.name in SDKS:
            expect(answer.kind, kind, "the SDK's class")
        expect({"message", "type", "param", "code"} <= error.keys(), True, f"fields of {error}")

    return check


def _blocked(stage: str, prompt: str) -> Check:
    def check(client: Client) -> None:
        answer = GENERATE(client, prompt=prompt)
        error = answer.error or {}
        expect((answer.status, error.get("code")), (400, "moderation_blocked"), "the block")
        expect(error.get("type"), "image_generation_user_error", "type")
        details = error.get("moderation_details", {})
        expect(details.get("moderation_stage"), stage, "stage")
        expect(bool(details.get("categories")), True, "categories")
        expect("safety_violations=[" in error["message"], True, error["message"])

    return check


def _ends_a_stream(client: Client) -> None:
    answer = GENERATE(client, prompt="gore after a bomb", stream=True, partial_images=1)
    expect((answer.status, answer.events), (200, ()), "a stream without a picture")
    expect((answer.error or {}).get("code"), "moderation_blocked", "its last event")


def _key_reused(client: Client) -> None:
    headers = {"Idempotency-Key": f"reused-{client.name}"}
    good(client.call("images.generate", headers=headers, **FOX))
    again: dict[str, Any] = {**FOX, "prompt": "a blue fox"}
    answer = client.call("images.generate", headers=headers, **again)
    found = (answer.status, (answer.error or {}).get("code"))
    expect(found, (422, "idempotency_mismatch"), "the key with another body")


def _keyed(key: str, **fields: Any) -> Ask:
    return Ask("images.generate", {**FOX, "key": OTHER_KEYS[key], **fields})


ERRORS = [
    _error_row(
        "400 invalid_request_error",
        "`message`, `type`, `param` and `code`, always",
        _raises("BadRequestError", 400, "invalid_value", GENERATE, size="big"),
    ),
    _error_row(
        "400 moderation_blocked, input",
        "`moderation_details` has stage and categories; the prompt took no GPU time",
        _blocked("input", "gore after a bomb"),
    ),
    _error_row(
        "400 moderation_blocked, output",
        "the picture was refused, while it was drawn or at the end",
        _blocked("output", "a pistol"),
        lane="embedded",
    ),
    _error_row(
        "an error in a stream",
        "the last event's `error`, which the SDKs raise; one lost image of several is "
        "`image_generation.failed` instead, so that the others arrive",
        _ends_a_stream,
    ),
    _error_row(
        "401",
        "`invalid_api_key`",
        _raises("AuthenticationError", 401, "invalid_api_key", _keyed("wrong")),
    ),
    _error_row(
        "403",
        "`not_yet_open`: the tier's rollout has not reached the account",
        _raises("PermissionDeniedError", 403, "not_yet_open", _keyed("closed")),
    ),
    _error_row(
        "404",
        "`model_not_found`, `job_not_found`, ...; another tenant's things do not exist",
        _raises("NotFoundError", 404, "model_not_found", GENERATE, model="dall-e-3"),
    ),
    Row(
        "errors",
        "error",
        "409",
        (),
        Does.NEVER_SENT,
        "the SDKs would retry it; what is permanent is 410 or 422",
        _key_reused,
    ),
    _error_row("422", "`idempotency_mismatch`: the key was used with another body", _key_reused),
    _error_row(
        "429 insufficient_quota",
        "the day's images are used up; `x-should-retry: false`",
        _raises("RateLimitError", 429, "insufficient_quota", _keyed("poor"), n=3),
    ),
]
"""Of 429 there are more kinds, and 5xx: docs/http-api.md. They need a load or a broken disk."""


# Headers


def _answers_with(name: str, test: Any, **fields: Any) -> Check:
    def check(client: Client) -> None:
        headers = {k.lower(): v for k, v in GENERATE(client, **fields).headers.items()}
        expect(bool(test(headers.get(name))), True, f"{name}: {headers.get(name)}")

    return check


def _says_no_retry(client: Client) -> None:
    headers = _keyed("poor", n=3)(client).headers
    expect(headers.get("x-should-retry"), "false", "x-should-retry")


def _ratelimits(client: Client) -> None:
    headers = _keyed("poor", n=3)(client).headers
    expect(headers.get("x-ratelimit-limit-images"), "2", "the limit")


def _sent(name: str, value: str) -> Check:
    """With this request header the answer is what it is without."""

    def check(client: Client) -> None:
        with_it = client.call("images.generate", headers={name: value}, **FOX)
        expect(pictures(with_it) == pictures(GENERATE(client)), True, f"the picture with {name}")

    return check


def _same_job(name: str) -> Check:
    def check(client: Client) -> None:
        headers = {"Idempotency-Key": f"{name}-{client.name}"}
        jobs = {
            good(client.call("images.generate", headers=headers, **FOX)).headers["x-job-id"]
            for _ in range(2)
        }
        expect(len(jobs), 1, "jobs of one key")

    return check


def _responds_async(client: Client) -> None:
    answer = client.call("POST /images/generations", headers={"Prefer": "respond-async"}, **FOX)
    good(answer, 202)
    expect(answer.headers["location"].endswith(answer.body["id"]), True, "location")


def _header(name: str, does: Does, note: str, check: Check, clients: Any = ALL) -> Row:
    return Row("headers", "header", name, (), does, note, check, clients)


HEADERS = [
    _header(
        "Authorization: Bearer",
        Does.HONOURED,
        "a key of the config, of the ledger, or a signed token",
        fails(_keyed("wrong"), 401, "invalid_api_key"),
    ),
    _header(
        "OpenAI-Organization, OpenAI-Project",
        Does.NO_EFFECT,
        "the key says who asks",
        both(_sent("OpenAI-Organization", "org-1"), _sent("OpenAI-Project", "proj-1")),
    ),
    _header(
        "Idempotency-Key",
        Does.HONOURED,
        "ours: the same key and body is the same job for a day",
        _same_job("same"),
    ),
    _header(
        "x-stainless-retry-count",
        Does.HONOURED,
        "a retry finds the job that was never answered, and makes a new one of one that was",
        _sent("x-stainless-retry-count", "1"),
    ),
    _header(
        "Prefer: respond-async",
        Does.HONOURED,
        "ours: 202 with the job",
        _responds_async,
        HTTP,
    ),
    _header("x-request-id", Does.HONOURED, "on every answer", _answers_with("x-request-id", bool)),
    _header(
        "x-should-retry",
        Does.HONOURED,
        "`false` where a retry cannot help, `true` where it goes on waiting",
        _says_no_retry,
    ),
    _header(
        "x-ratelimit-*-images",
        Does.HONOURED,
        "ours: of tiers with a daily limit, on answers and refusals",
        _ratelimits,
    ),
    _header(
        "x-ratelimit-*-requests, x-ratelimit-*-tokens",
        Does.NEVER_SENT,
        "nothing here is limited by those",
        both(
            *(
                _answers_with(f"x-ratelimit-limit-{unit}", lambda v: v is None)
                for unit in ("requests", "tokens")
            )
        ),
    ),
    _header(
        "retry-after-ms",
        Does.NEVER_SENT,
        "`retry-after` in seconds is, and never more than the SDKs follow, but for a used-up day",
        _answers_with("retry-after-ms", lambda v: v is None, size="big"),
    ),
]


# Endpoints that are not offered, or not to tenants


def _endpoint(method: str, path: str, note: str = "404 `unknown_url`") -> Row:
    ask = Ask(f"{method} {path}", {})
    check = fails(ask, 404, "unknown_url")
    name = f"{method} /v1{path}"
    return Row("endpoints", "endpoint", name, (), Does.NOT_OFFERED, note, check, HTTP)


USAGE = Row(
    "endpoints",
    "endpoint",
    "GET /v1/organization/usage/images",
    (),
    Does.REFUSED,
    "403 `operator_required` for a tenant's key; an operator's gets OpenAI's shape",
    fails(Ask("GET /organization/usage/images?start_time=1", {}), 403, "operator_required"),
    HTTP,
)
ENDPOINTS = [
    USAGE,
    _endpoint("GET", "/organization/projects/any/rate_limits"),
    _endpoint("POST", "/chat/completions"),
    _endpoint("POST", "/uploads"),
]
