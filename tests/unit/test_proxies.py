"""Nothing that stays on this machine is asked for through a proxy."""

from __future__ import annotations

import urllib.request

import httpx
import pytest

from serve_app.operate.http_proxies import (
    UnusableEnvironment,
    http_client,
    may_use_proxy,
    no_proxy,
    without_password,
)

HERE = (
    "http://127.0.0.1:8000",
    "http://127.1.2.3",
    "http://localhost:8000/v1",
    "http://LOCALHOST.",
    "http://studio.localhost:1",
    "http://[::1]:8000",
    "http://0.0.0.0:8000",
)
ELSEWHERE = ("http://images.example.com", "https://10.0.0.7:8000", "http://localhost.example.com")


def test_this_machine_is_never_asked_through_a_proxy() -> None:
    assert [url for url in HERE if may_use_proxy(url)] == []
    assert [url for url in ELSEWHERE if not may_use_proxy(url)] == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x"])
def test_no_proxy_of_the_environment_is_in_the_way_of_loopback(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with http_client("http://127.0.0.1:8000") as client:
        assert client._mounts == {}


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://u:sesame@127.0.0.1:9", "socksio"), ("nonsense://u:sesame@x", "no URL such as")],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    proxy: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UnusableEnvironment, match=said) as refused:
        http_client("http://images.example.com")
    assert "sesame" not in str(refused.value)


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with pytest.raises(UnusableEnvironment, match="SSL_CERT_FILE"):
        http_client("https://images.example.com")


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.example, .b"}, "a.example,.b,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost", "NO_PROXY": "c"}, "c,localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_children_are_told_so_in_both_spellings(given: dict[str, str], made: str) -> None:
    assert no_proxy(given) == {"NO_PROXY": made, "no_proxy": made}


def test_what_children_are_told_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for name, value in no_proxy({}).items():
        monkeypatch.setenv(name, value)
    assert urllib.request.proxy_bypass("127.0.0.1:8265")
    with httpx.Client() as client:
        direct = client._transport_for_url(httpx.URL("http://127.0.0.1:8265"))
        assert direct is client._transport
        assert client._transport_for_url(httpx.URL("http://a.example")) is not direct


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:pa/ss@h:1/x", "http://h:1/x"),
        ("http://h:1/x", "http://h:1/x"),
        ("u:p@h", "h"),
    ],
)
def test_urls_are_shown_without_passwords(url: str, shown: str) -> None:
    assert without_password(url) == shown
