"""One try to deliver a webhook: a POST to an address that was checked, without following anything.

A name is resolved once, every address of it must be public or in `webhooks.networks`, and the
connection goes to that very address. Of the answer counts its status; little of its body is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from serve_app.access.outbound import (
    PORTS,
    Resolve,
    is_public,
    pinned,
    resolve,
    tls,
)
from serve_app.config.webhooks import MOST_URL_CHARACTERS, WebhooksSection

HEADERS = {"accept-encoding": "identity", "connection": "close", "user-agent": "meltproof"}
READ_BYTES = 16_384
"""Of an answer's body, so that a server that writes one is not cut off; what it says is dropped."""
READ_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SendResult:
    """What came of it. status: of the answer, None without one. error: why it was not taken, for
    its tenant to read; None when it was."""

    status: int | None
    error: str | None

    @property
    def gone(self) -> bool:
        """The endpoint says that it wants no more."""
        return self.status == HTTPStatus.GONE


class BadUrl(ValueError):
    """No deliveries go to that URL; the sentence is for its tenant."""


def check_url(url: str, section: WebhooksSection) -> httpx.URL:
    """The URL, as far as it can be judged without resolving its name. Raises BadUrl."""
    if len(url) > MOST_URL_CHARACTERS:
        raise BadUrl(f"it is longer than {MOST_URL_CHARACTERS} characters")
    if not section.takes(url):
        wanted = "an http or https URL" if section.networks else "an https URL without a port"
        raise BadUrl(f"it is not {wanted}, such as https://example.com/webhooks")
    return httpx.URL(url)


async def send(
    url: str,
    body: bytes,
    headers: dict[str, str],
    section: WebhooksSection,
    *,
    public: Callable[[str], bool] = is_public,
    resolve: Resolve = resolve,
) -> SendResult:
    """POST it there. Raises nothing of the network's."""
    try:
        async with asyncio.timeout(section.seconds):
            target = check_url(url, section)
            address = await _address(target, section, public, resolve)
            return await _post(pinned("POST", target, address, HEADERS | headers, body))
    except BadUrl as problem:
        return SendResult(None, str(problem))
    except TimeoutError:
        return SendResult(None, f"it took longer than {section.seconds:g} s")
    except (httpx.HTTPError, OSError, UnicodeError):  # the last: a name too long to ask for
        return SendResult(None, "its server could not be reached, or broke off")


async def _address(
    target: httpx.URL, section: WebhooksSection, public: Callable[[str], bool], resolve: Resolve
) -> str:
    """The one to connect to. Raises BadUrl unless all of the name's may be connected to."""
    port = target.port or {"http": 80, "https": 443}[target.scheme]
    addresses = await resolve(target.raw_host.decode("ascii"), port)
    if addresses and all(map(section.in_own_networks, addresses)):
        return addresses[0]
    if not addresses or not all(map(public, addresses)):
        raise BadUrl("its host has an address that is not public")
    if target.scheme != "https" or port not in PORTS:
        raise BadUrl("it must begin with https:// and have no port of its own")
    return addresses[0]


async def _post(request: httpx.Request) -> SendResult:
    verify = await asyncio.to_thread(tls)
    async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=None) as client:
        answer = await client.send(request, stream=True)
        try:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(READ_SECONDS):
                    await _skip(answer)
        finally:
            with suppress(httpx.HTTPError):
                await answer.aclose()
    status = answer.status_code
    if answer.is_success:
        return SendResult(status, None)
    more = ", and redirects are not followed" if answer.is_redirect else ""
    return SendResult(status, f"it answered {status}{more}")


async def _skip(answer: httpx.Response) -> None:
    size = 0
    async for piece in answer.aiter_raw():
        size += len(piece)
        if size >= READ_BYTES:
            return
