"""From settled images to bytes and URLs: reads blobs off the event loop, signs what opens alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from jobs.blobs.store import BlobMissing, StoreUnavailable, preview_key
from jobs.blobs.threads import in_store
from jobs.job import Job, Render, RenderState
from serve_app.delivery.pieces import Part, Pieces, pieces_response, stored
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.responses import root_url
from serve_app.wire.errors import BadSignature

LINK_SECONDS = 60.0
"""Of a URL of the store, in which a client has to begin to read."""
MEDIA_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}


def finished(job: Job) -> list[Render]:
    """The images that exist."""
    return [
        render
        for render in job.renders
        if render.state is RenderState.SUCCEEDED and render.blob is not None
    ]


def without(job: Job, missing: Collection[int]) -> Job:
    """The job as it is once these pictures are forgotten: what is not in the store, be it lost or
    forgotten at this moment."""
    renders = (replace(r, blob=None) if r.index in missing else r for r in job.renders)
    return replace(job, renders=tuple(renders))


async def picture(state: AppState, render: Render) -> bytes:
    """A finished image. Raises BlobMissing."""
    if render.blob is None:
        raise BlobMissing(f"image {render.index} has no blob")
    return await in_store(state.blobs.get, render.blob)


async def picture_part(state: AppState, render: Render, *, base64: bool = True) -> Part:
    """A finished image as a part of an answer. Raises BlobMissing."""
    if render.blob is None:
        raise BlobMissing(f"image {render.index} has no blob")
    return await in_store(stored, state.blobs, render.blob, base64=base64)


async def picture_link(state: AppState, render: Render, method: str) -> str | None:
    """Where a finished image is read without us, for a minute; None where that is not configured.
    Raises BlobMissing."""
    if render.blob is None:
        raise BlobMissing(f"image {render.index} has no blob")
    verb: Literal["GET", "HEAD"] = "HEAD" if method == "HEAD" else "GET"
    return await in_store(state.blobs.link, render.blob, verb, LINK_SECONDS)


async def preview_part(state: AppState, job: Job, index: int, pass_no: int) -> Part | None:
    """A preview in base64; None when it has been forgotten since, or cannot be read now."""
    key = preview_key(job.id, index, pass_no, job.request.output_format)
    try:
        return await in_store(stored, state.blobs, key, base64=True)
    except (BlobMissing, StoreUnavailable):
        return None


def urls(request: Request, job: Job) -> dict[int, str]:
    """Absolute URLs of the finished images that open without a header, for a while."""
    return {render.index: url(request, job, render) for render in finished(job)}


def url(request: Request, job: Job, render: Render) -> str:
    """Of one finished image."""
    return signed_url(app_state_of(request), root_url(request), job, render)


def signed_url(state: AppState, root: str, job: Job, render: Render) -> str:
    """The same, where URLs begin with `root`."""
    expires = int(time.time()) + state.config.gateway.url_seconds
    signature = state.signer.sign(_message(job.id, render.index, expires))
    path = f"/v1/jobs/{job.id}/images/{render.index}"
    return f"{root}{path}?expires={expires}&signature={signature}"


def is_signed(request: Request, job_id: str, index: int) -> bool:
    """Whether the URL was made here, for that picture. Raises BadSignature for one that was, and is
    too old."""
    expires = request.query_params.get("expires", "")
    signature = request.query_params.get("signature", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
        return False
    if not app_state_of(request).signer.signed(_message(job_id, index, int(expires)), signature):
        return False
    if int(expires) < time.time():
        raise BadSignature
    return True


def _message(job_id: str, index: int, expires: int) -> str:
    return f"{job_id}/{index}/{expires}"


def paced(state: AppState, tenant: str, content: Sequence[Part]) -> Pieces:
    """An answer, or an event of one, as fast as pictures are written to that tenant."""
    pace = state.large.pace(tenant, state.config.limits.answer_bytes_per_second)
    return Pieces(state.blobs, content, pace)


def paced_response(
    state: AppState,
    tenant: str,
    content: Sequence[Part],
    headers: dict[str, str],
    media_type: str,
) -> Response:
    """An answer with pictures, when it is the tenant's turn."""
    pieces = paced(state, tenant, content)
    turn = state.large.turn(tenant, pieces.size)
    return pieces_response(pieces, turn, headers, media_type)
