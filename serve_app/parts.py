"""What the routes share, made once by the gateway; and reading a request, within limits."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from jobs.blobs import BlobStore
from jobs.group_commit import AsyncLedger
from jobs.request import Tenant
from serve_app.auth import Keyring, UrlSigner
from serve_app.config import ClusterConfig
from serve_app.errors import ApiError, BodyTooLarge
from serve_app.watch import JobWatch

SEEDS = 2**53
"""Seeds that we choose ourselves stay below what a browser's numbers hold exactly."""
DRAINED_BODIES = 8


@dataclass(frozen=True, slots=True)
class Parts:
    """ledger: the truth. blobs: blocking, call it in a thread. watch: who waits here."""

    config: ClusterConfig
    ledger: AsyncLedger
    blobs: BlobStore
    keyring: Keyring
    signer: UrlSigner
    watch: JobWatch


def parts_of(request: Request) -> Parts:
    """The gateway's parts."""
    parts: Parts = request.app.state.parts
    return parts


async def tenant_of(request: Request) -> Tenant:
    """Who asks. Raises Unauthorized, LedgerUnavailable."""
    return await parts_of(request).keyring.tenant(request.headers.get("authorization"))


def fresh_seed() -> int:
    """A seed for a request that names none."""
    return secrets.randbelow(SEEDS)


def json_response(
    body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON, encoded by the fast encoder."""
    return Response(to_json(body), status, headers, media_type="application/json")


def error_response(problem: ApiError, headers: dict[str, str] | None = None) -> Response:
    """The OpenAI envelope with its status and headers."""
    return json_response(problem.envelope(), problem.status, {**problem.headers, **(headers or {})})


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, or BodyTooLarge as soon as it is known to be too long.

    What comes beyond is read and dropped for a while, so that the client gets to see the answer.
    """
    declared = request.headers.get("content-length", "")
    size, chunks = 0, []
    too_large = declared.isdigit() and int(declared) > limit
    async for chunk in request.stream():
        size += len(chunk)
        too_large = too_large or size > limit
        if not too_large:
            chunks.append(chunk)
        elif size > DRAINED_BODIES * limit:
            break
    if too_large:
        raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
    return b"".join(chunks)
