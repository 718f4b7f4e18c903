"""Jobs by id: state, events, cancelling, and the finished pictures. Only ever the tenant's own."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobs.blobs.store import BlobMissing
from jobs.depth import QueueEstimate
from jobs.job import Job, JobState, RenderState
from jobs.ledger_errors import LedgerUnavailable
from serve_app.delivery.pieces import HOLE, filled
from serve_app.delivery.sse import Event, EventStream, frame
from serve_app.delivery.watch import JobView
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.callers import (
    charge_rows,
    charge_unauthenticated,
    limit_of,
    poller_of,
    stay_open,
)
from serve_app.orders.pictures import (
    MEDIA_TYPES,
    is_signed,
    paced,
    paced_response,
    picture_link,
    picture_part,
    preview_part,
    urls,
)
from serve_app.orders.responses import json_response, root_url
from serve_app.orders.sources import finished_image, no_image
from serve_app.wire.errors import BadSignature, ImageExpired, NotFound
from serve_app.wire.jobs import JobBody, JobsBody, job_body, listed, preview_event
from serve_app.wire.operations import (
    FILE,
    JOB_EVENTS,
    KEY_OR_SIGNATURE,
    TEXT,
    answer,
    header,
    media,
    of_job,
    operation,
    query,
)

router = APIRouter()

MOST_LISTED = 100
FRAME_SECONDS = 10
MOST_FRAMES = 16
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
JOB = {200: answer(JobBody, **of_job("$response.body#/id"))}


@router.get("/v1/jobs")
@operation(
    "listJobs",
    {200: answer(JobsBody, **of_job("$response.body#/data/0/id"))},
    400,
    parameters=[query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED})],
)
async def recent(request: Request) -> Response:
    """Your newest jobs, with the beginnings of their prompts. Those of batches are not among them:
    there may be 50,000 at once, and the batch's output file has them."""
    tenant = await poller_of(request)
    limit = limit_of(request, 20, MOST_LISTED)
    jobs = await app_state_of(request).ledger.recent(tenant.id, limit, batches=False)
    charge_rows(request, tenant, sum(1 + len(job.renders) for job in jobs))
    data = [listed(job_body(job, None, urls(request, job))) for job in jobs]
    body: JobsBody = {"object": "list", "data": data}
    return json_response(body)


@router.get("/v1/jobs/{job_id}")
@operation("getJob", JOB, 404)
async def show(request: Request, job_id: str) -> Response:
    """One job. Asking keeps a synchronous job alive, as waiting for it does."""
    job = await _own_job(request, job_id)
    state = app_state_of(request)
    if job.watched_until is not None and not job.ended:
        await state.ledger.watch([job.id], state.config.gateway.watch_grace_seconds)
    return json_response(_body(request, job, await _estimate(state, job)))


@router.delete("/v1/jobs/{job_id}")
@operation("cancelJob", JOB, 404)
async def cancel(request: Request, job_id: str) -> Response:
    """Cancel a job; one that has ended stays as it is. So does one that another order shares."""
    job = await _own_job(request, job_id)
    cancelled = await app_state_of(request).ledger.withdraw(job.id) or job
    return json_response(job_body(cancelled, None, urls(request, cancelled)))


@router.get("/v1/jobs/{job_id}/events")
@operation(
    "watchJob",
    {200: media("`job` and `preview` events", {"text/event-stream": JOB_EVENTS})},
    404,
    parameters=[header("Last-Event-ID", TEXT)],
)
async def events(request: Request, job_id: str) -> Response:
    """A job's states and previews as events, until it has ended.

    A preview's id lists the newest preview sent of each image as render.pass pairs: a client that
    comes back with it as Last-Event-ID gets the state as it is now, and the previews after it.
    """
    job = await _own_job(request, job_id)
    stay_open(request, job.request.tenant)
    state = app_state_of(request)
    sent = _parse_event_id(request.headers.get("last-event-id", ""))
    stream = _events(state, request, job, sent)
    return EventStream(stream, state.keepalive_seconds(job.request.tenant))


@router.api_route("/v1/jobs/{job_id}/images/{index}", methods=["GET", "HEAD"])
@operation(
    "getPicture",
    {
        200: media("The image", dict.fromkeys(MEDIA_TYPES.values(), FILE)),
        307: {"description": "It is read at `Location`, of the bucket, within a minute."},
    },
    *(403, 404, 410),
    parameters=[query("expires", TEXT)],
    security=KEY_OR_SIGNATURE,
)
async def image(request: Request, job_id: str, index: str) -> Response:
    """A finished image's bytes, with the API key or with a signed URL."""
    state = app_state_of(request)
    number = int(index) if re.fullmatch(r"[0-9]{1,2}", index) else -1
    if "signature" in request.query_params:
        if not is_signed(request, job_id, number):  # before the ledger is asked
            charge_unauthenticated(request)
            raise BadSignature
        job = await _any_job(request, job_id)
    else:
        job = await _own_job(request, job_id)
    if job is None:
        raise no_image()
    render = finished_image(job, number)
    if render.blob is None:
        raise ImageExpired
    own_page = request.headers.get("sec-fetch-site") == "same-origin"  # it opens no other origin
    link = None if own_page else await picture_link(state, render, request.method)
    if link is not None:
        return RedirectResponse(link, 307, {"cache-control": "private, no-store"})
    try:
        part = await picture_part(state, render, base64=False)
    except BlobMissing:
        raise ImageExpired from None
    headers = {
        "cache-control": "private, max-age=31536000, immutable",
        "content-disposition": f'inline; filename="{job.id}-{number}.{job.request.output_format}"',
    }
    media_type = MEDIA_TYPES[job.request.output_format]
    return paced_response(state, job.request.tenant, [part], headers, media_type)


async def _any_job(request: Request, job_id: str) -> Job | None:
    return await app_state_of(request).ledger.get(job_id) if _ID.fullmatch(job_id) else None


async def _own_job(request: Request, job_id: str) -> Job:
    """The tenant's job; another tenant's does not exist. Raises Unauthorized, NotFound."""
    tenant = await poller_of(request)
    job = await _any_job(request, job_id)
    if job is None or job.request.tenant != tenant.id:
        raise NotFound("There is no such job.", code="job_not_found")
    return job


async def _estimate(state: AppState, job: Job) -> QueueEstimate:
    """Position and ETA; empty while the ledger is away."""
    if job.ended:
        return QueueEstimate()
    try:
        return await state.ledger.estimate(job.id)
    except LedgerUnavailable:
        return QueueEstimate()


def _body(request: Request, job: Job, estimate: QueueEstimate) -> JobBody:
    """`estimate` may be a little older or younger than the job: only what fits it is shown."""
    position = estimate.position if job.state is JobState.QUEUED else None
    eta_seconds = None if job.ended else estimate.eta_seconds
    return job_body(job, position, urls(request, job), eta_seconds)


async def _events(
    state: AppState, request: Request, job: Job, sent: dict[int, int]
) -> AsyncGenerator[Event]:
    shown = b""
    async with aclosing(state.watch.views(job, renew_now=True)) as views:
        async for view in views:
            async with aclosing(_previews(state, view.job, sent)) as previews:
                async for preview in previews:
                    yield preview
            now = _job_frame(request, view)
            if now != shown:  # a job also changes in what is not shown
                shown = now
                yield now


def _job_frame(request: Request, view: JobView) -> bytes:
    """Encoded once for all streams of a job; not for long, since the links in it expire."""
    which = (root_url(request), int(time.time() // FRAME_SECONDS))
    if which not in view.frames:
        if len(view.frames) >= MOST_FRAMES:
            view.frames.clear()
        view.frames[which] = frame(_body(request, view.job, view.estimate), "job")
    return view.frames[which]


async def _previews(state: AppState, job: Job, sent: dict[int, int]) -> AsyncGenerator[Event]:
    """Stored previews after those in `sent`, which is brought up to date."""
    for render in job.renders:
        if render.state is RenderState.BLOCKED:
            continue
        for pass_no in sorted(render.previews):
            if pass_no <= sent.get(render.index, 0):
                continue
            sent[render.index] = pass_no
            part = await preview_part(state, job, render.index, pass_no)
            if part is not None:
                event = preview_event(job, render.index, pass_no, HOLE)
                text = frame(event, "preview", _event_id(sent))
                pieces = paced(state, job.request.tenant, filled(text, [part]))
                async with state.large.turn(job.request.tenant, pieces.size):
                    yield pieces


def _event_id(sent: dict[int, int]) -> str:
    return ",".join(f"{index}.{pass_no}" for index, pass_no in sorted(sent.items()))


def _parse_event_id(text: str) -> dict[int, int]:
    """Render -> newest pass already seen. What cannot be read counts as nothing seen."""
    pairs = re.findall(r"(?:^|,)([0-9]{1,2})\.([0-9]{1,5})(?=,|$)", text)
    return {int(index): int(pass_no) for index, pass_no in pairs}
