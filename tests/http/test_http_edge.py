"""What a request must have before a route sees it: hosts, origins, encodings, header lists."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.config.cluster import parse_cluster_config
from serve_app.config.errors import ConfigError
from tests.stages.http_stage import Stage, config, stage

IMAGES = "/v1/images/generations"
ORIGIN = "https://app.example.com"
GATEWAY = {"hosts": ["localhost", "127.0.0.1", "[::1]"], "cors_origins": [ORIGIN]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("edge"), config(gateway=GATEWAY)) as made:
        yield made


@pytest.fixture(scope="module")
def http(running: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers=running.headers, timeout=60) as made:
        yield made


# Hosts


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9", "127.0.0.1:8000", "[::1]", "[::1]:80", "localhost.:1"]
)
def test_the_laptop_answers_to_its_own_names(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "0.0.0.0",
        "127.0.0.2",
        "[::2]",
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/", "/studio/studio.js", "/openapi.json", "/none"])
def test_other_names_get_nothing(http: httpx.Client, host: str, path: str) -> None:
    more = {"x-forwarded-host": "localhost", "forwarded": "host=localhost"}
    answer = http.get(path, headers={"host": host, **more})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")
    assert "gateway.hosts" in answer.json()["error"]["message"]
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["a b", "a/b", "localhost@evil.example", "localhost:x", "[::1", "é"]
)
def test_a_host_that_is_none_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/v1/jobs", headers={"host": host.encode()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_host")


def test_probes_ask_by_address(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert http.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_the_configs_for_one_machine_name_their_hosts() -> None:
    files = [path for path in Path("configs").glob("*.yaml") if path.name != "cluster.yaml"]
    for path in files:
        for application in yaml.safe_load(path.read_text())["applications"]:
            if application["import_path"] != "serve_app.app:model":  # it has no gateway
                assert application["args"]["gateway"]["hosts"] == GATEWAY["hosts"], path


# Origins


def preflight(http: httpx.Client, origin: str, asked: str = "authorization") -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
    }
    return http.options(IMAGES, headers=headers)


def test_a_listed_page_may_ask(http: httpx.Client) -> None:
    asked = "authorization,content-type,idempotency-key,prefer,x-stainless-lang"
    allowed = preflight(http, ORIGIN, asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-allow-headers"] == asked
    assert "access-control-allow-credentials" not in allowed.headers
    order = http.post(IMAGES, json={"prompt": "fox"}, headers={"origin": ORIGIN})
    refused = http.post(IMAGES, json={}, headers={"origin": ORIGIN})
    wrong = http.get("/v1/jobs", headers={"origin": ORIGIN, "authorization": "Bearer x"})
    for answer, status in ((order, 200), (refused, 400), (wrong, 401)):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "x-job-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"


def test_other_pages_may_not(http: httpx.Client) -> None:
    for origin in (
        "https://evil.example",
        "null",
        f"{ORIGIN}.evil.example",
        "http://app.example.com",
    ):
        assert preflight(http, origin).status_code == 400
        answer = http.get("/v1/jobs", headers={"origin": origin})
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("gateway", "reason"),
    [
        ({"cors_origins": ["*"]}, "name each origin"),
        ({"cors_origins": ["https://*.example.com"]}, "name each origin"),
        ({"cors_origins": ["app.example.com"]}, "https://app.example.com"),
        ({"cors_origins": ["https://app.example.com/"]}, "https://app.example.com"),
        ({"hosts": []}, "at least 1"),
        ({"hosts": ["localhost:8000"]}, "without a port"),
        ({"hosts": ["*"]}, "no host name"),
    ],
)
def test_what_would_open_too_much_is_refused_at_start(gateway: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match="gateway") as refused:
        parse_cluster_config({"gateway": gateway})
    assert reason in str(refused.value)


# Encodings and lists


@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x y"]
)
@pytest.mark.parametrize("path", [IMAGES, "/v1/images/edits", "/v1/files"])
def test_a_packed_body_is_named_as_such(http: httpx.Client, coding: str, path: str) -> None:
    body = gzip.compress(json.dumps({"prompt": "fox"}).encode())
    kind = "application/json" if path != "/v1/files" else "multipart/form-data; boundary=x"
    answer = http.post(
        path, content=body, headers={"content-encoding": coding, "content-type": kind}
    )
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_content_encoding", "Content-Encoding")
    assert coding.lower().split(", ")[-1] in error["message"] or "unknown" in error["message"]


def test_identity_is_no_encoding(http: httpx.Client) -> None:
    for coding in ("identity", "Identity, identity", ""):
        headers = {"content-encoding": coding}
        assert http.post(IMAGES, json={"prompt": "fox"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["respond-async"],
        ["Respond-Async; foo=bar"],
        ["wait=10", "respond-async"],
        ['note="a, b", respond-async'],
        ["respond-async;wait=10, handling=lenient"],
    ],
)
def test_preferences_are_a_list(http: httpx.Client, lines: list[str]) -> None:
    headers = httpx.Headers([("prefer", line) for line in lines])
    answer = http.post(IMAGES, json={"prompt": "fox"}, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"


@pytest.mark.parametrize(
    "line", ["respond-asynchronously", 'note="a, respond-async"', "x=respond-async"]
)
def test_other_preferences_are_others(http: httpx.Client, line: str) -> None:
    assert http.post(IMAGES, json={"prompt": "fox"}, headers={"prefer": line}).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_name_of_the_scheme_has_no_case(http: httpx.Client, scheme: str) -> None:
    headers = {"authorization": f"{scheme} sk-local"}
    assert http.get("/v1/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "kind", ["", "application/json", "Application/JSON; Charset=UTF-8", "text/plain"]
)
def test_what_is_json_is_read_as_json(http: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind}
    assert http.post(IMAGES, content=b'{"prompt": "fox"}', headers=headers).status_code == 200


def test_a_part_of_a_picture_may_be_asked_for(http: httpx.Client) -> None:
    """No answer has to be partial (RFC 9110 14.2), but none may be wrong."""
    made = http.post(IMAGES, json={"prompt": "fox", "response_format": "url"}).json()
    url = made["data"][0]["url"]
    whole = http.get(url).content
    for headers in ({"range": "bytes=0-9"}, {"if-none-match": "*"}, {"if-none-match": '"x"'}):
        answer = http.get(url, headers=headers)
        assert (answer.status_code, answer.content) == (200, whole)
    assert http.head(url).headers["content-length"] == str(len(whole))
