"""What the routes share, made once by the gateway; and reading a request, within limits."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_network
from typing import Any

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from autoscaling.lane_heat import LaneHeat
from autoscaling.temporary_limits import TemporaryLimits
from engine.capabilities import Capabilities
from jobs.blobs.store import BlobStore
from jobs.client.async_ledger import AsyncLedger
from jobs.request import Tenant
from serve_app.access.addresses import client_address, is_trusted
from serve_app.access.auth import Keyring, UrlSigner
from serve_app.access.buckets import Buckets
from serve_app.admission.open_requests import ENDING, OpenRequests
from serve_app.admission.prices import Prices
from serve_app.admission.queue import AcceptLine
from serve_app.admission.readiness import Readiness
from serve_app.admission.refusals import Refused
from serve_app.config.cluster import ClusterConfig
from serve_app.config.sections import LimitsSection
from serve_app.delivery.pieces import LargeAnswers
from serve_app.delivery.watch import JobWatch
from serve_app.uploads.inputs import Inputs
from serve_app.uploads.remote_images import RemoteImages
from serve_app.wire.errors import (
    ApiError,
    BodyTooLarge,
    BodyTooSlow,
    Unauthorized,
    UnknownEncoding,
    too_many,
)

log = logging.getLogger(__name__)

SEED_BITS = 53
"""Seeds that we choose ourselves stay below what a browser's numbers hold exactly."""
DRAINED_BODIES = 8
REFUSED_BYTES = 65_536
MOST_PER_REFUSAL = 8.0
"""An invalid order costs a token of `limits.refused_per_second`, and one more for so many bytes of
it; never so many that a tenant's other clients would wait for long."""
ROWS_PER_POLL = 16
"""Rows of jobs and images that one token of `limits.polls_per_second` reads."""
SLOWEST_BYTES_PER_SECOND = 65_536


@dataclass(frozen=True, slots=True)
class AppState:
    """ledger: the truth. blobs: blocking, call it in a thread. watch: who waits here. prices: what
    a request will cost. heat: of the lane. limits: what heat does to the tiers. can: what the
    family that draws is able to. polls: of each tenant. refusals: orders of each tenant that were
    not valid. strangers: requests of each address without a valid key. line: before the
    ledger. inputs: pictures that clients send. readiness: of the ledger. refused: whose orders
    were, by their limits, lately. remote_images: those behind URLs."""

    config: ClusterConfig
    ledger: AsyncLedger
    blobs: BlobStore
    keyring: Keyring
    signer: UrlSigner
    watch: JobWatch
    prices: Prices
    heat: LaneHeat
    limits: TemporaryLimits
    can: Capabilities
    inputs: Inputs
    readiness: Readiness
    polls: Buckets = field(default_factory=Buckets)
    refusals: Buckets = field(default_factory=Buckets)
    strangers: Buckets = field(default_factory=Buckets)
    line: AcceptLine = field(default_factory=AcceptLine)
    refused: Refused = field(default_factory=Refused)
    remote_images: RemoteImages = field(default_factory=RemoteImages)
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    large: LargeAnswers = field(default_factory=LargeAnswers)


def app_state_of(request: Request) -> AppState:
    """The gateway's state."""
    state: AppState = request.app.state.app_state
    return state


async def tenant_of(request: Request) -> Tenant:
    """Who asks. Raises Unauthorized, LedgerUnavailable, and TooManyRequests for an address that
    keeps asking without a valid key."""
    state = app_state_of(request)

    def suspect() -> bool:
        per_second = state.config.limits.unauthenticated_per_second
        return state.strangers.wait(_address(request), per_second, time.monotonic()) > 0

    try:
        return await state.keyring.tenant(request.headers.get("authorization"), suspect)
    except Unauthorized:
        stranger(request)
        raise


async def poller_of(request: Request) -> Tenant:
    """Who asks without ordering anything. Raises TooManyRequests, too."""
    tenant = await tenant_of(request)
    state = app_state_of(request)
    _take(state.polls, tenant.id, "your account", state.config.limits.polls_per_second)
    return tenant


def charge_rows(request: Request, tenant: Tenant, rows: int) -> None:
    """Charge a poll for the rows that it has read: a long list costs as much as many jobs."""
    state = app_state_of(request)
    per_second = state.config.limits.polls_per_second
    state.polls.charge(tenant.id, per_second, time.monotonic(), rows / ROWS_PER_POLL)


async def orderer_of(request: Request) -> Tenant:
    """The tenant of an order. Raises TooManyRequests for one whose orders are refused too often."""
    tenant = await tenant_of(request)
    state = app_state_of(request)
    per_second = state.config.limits.refused_per_second
    wait = state.refusals.wait(tenant.id, per_second, time.monotonic())
    if wait:
        raise too_many("invalid orders of your account", per_second, wait)
    request.state.orderer = tenant.id
    return tenant


def charge_refusal(request: Request, problem: ApiError) -> None:
    """Charge the tenant of an order that was not valid; others cost nothing."""
    tenant = getattr(request.state, "orderer", None)
    if tenant is not None and problem.charged:
        state = app_state_of(request)
        per_second = state.config.limits.refused_per_second
        read_bytes = getattr(request.state, "read_bytes", 0)
        tokens = min(1 + read_bytes / REFUSED_BYTES, MOST_PER_REFUSAL)
        state.refusals.charge(tenant, per_second, time.monotonic(), tokens)


def stay_open(request: Request, tenant: str) -> None:
    """Count the request as one that waits or streams, until it has been answered or its client
    has gone. Raises TooManyOpen."""
    state = app_state_of(request)
    state.open_requests.enter(tenant, state.config.limits.watchers)
    request.scope[ENDING].callback(state.open_requests.leave, tenant)


def stranger(request: Request) -> None:
    """Count a request that is about to be turned away. Raises TooManyRequests."""
    state = app_state_of(request)
    per_second = state.config.limits.unauthenticated_per_second
    _take(state.strangers, _address(request), "requests without a valid key", per_second)


def _address(request: Request) -> str:
    trusted = [ip_network(text) for text in app_state_of(request).config.gateway.trusted_proxies]
    peer = request.client.host if request.client else None
    forwarded_for = request.headers.getlist("x-forwarded-for")
    if forwarded_for and not is_trusted(peer, trusted):
        _say_untrusted(peer)
    return client_address(peer, forwarded_for, trusted)


@lru_cache(maxsize=1024)  # once for each peer
def _say_untrusted(peer: str | None) -> None:
    log.warning(
        "X-Forwarded-For from %s is not believed. If that is your proxy, name it in "
        "gateway.trusted_proxies: until then all its clients without a valid key share one limit",
        peer,
    )


def _take(buckets: Buckets, who: str, whose: str, per_second: float) -> None:
    wait = buckets.take(who, per_second, time.monotonic())
    if wait:
        raise too_many(whose, per_second, wait)


def keepalive_of(state: AppState, tenant: str) -> float:
    """Seconds that an event stream of the tenant is silent at most."""
    shortest = state.config.gateway.keepalive_seconds
    return state.open_requests.keepalive_seconds(tenant, shortest)


def fresh_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbits(SEED_BITS)


def json_response(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON, encoded by the fast encoder."""
    return Response(to_json(body), status, headers, media_type="application/json")


def error_response(problem: ApiError, headers: dict[str, str] | None = None) -> Response:
    """The OpenAI envelope with its status and headers."""
    return json_response(problem.envelope(), problem.status, {**problem.headers, **(headers or {})})


async def read_body(request: Request, limits: LimitsSection) -> bytes:
    """The whole body. Raises BodyTooLarge and BodyTooSlow."""
    async with aclosing(body_chunks(request, limits, limits.body_bytes)) as chunks:
        return b"".join([chunk async for chunk in chunks])


def _check_encoding(request: Request) -> None:
    """Raises UnknownEncoding. Unpacked, a small body could have any size."""
    given = ",".join(request.headers.getlist("content-encoding"))
    for name in given.split(","):
        coding = name.strip().lower()
        if coding not in ("", "identity"):
            known = coding if re.fullmatch(r"[a-z0-9_-]{1,16}", coding) else "unknown"
            raise UnknownEncoding(
                f"A body with Content-Encoding: {known} is not read here. Send it as it is, "
                "without a Content-Encoding.",
                param="Content-Encoding",
            )


async def body_chunks(
    request: Request, limits: LimitsSection, most_bytes: int
) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises UnknownEncoding, BodyTooLarge as soon as it is known to be too
    long, and BodyTooSlow; large bodies may take longer, as far as they keep coming. Not from
    Starlette's `stream`, whose end would be waited for with a timeout of its own.

    What comes beyond is read and dropped for a while, so that the client gets to see the answer.
    """
    _check_encoding(request)
    declared = request.headers.get("content-length", "")
    size, too_large = 0, declared.isdigit() and int(declared) > most_bytes
    patience = asyncio.get_running_loop().time() + limits.body_seconds
    more = True
    while more:
        try:
            async with asyncio.timeout_at(patience + size / SLOWEST_BYTES_PER_SECOND):
                message = await request.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        request.state.read_bytes = size
        too_large = too_large or size > most_bytes
        if not too_large:
            yield chunk
        elif size > most_bytes + DRAINED_BODIES * limits.body_bytes:
            break
    if too_large:
        raise BodyTooLarge(f"The request body is larger than {most_bytes} bytes.")
