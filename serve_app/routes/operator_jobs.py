"""What operators see of jobs, and do to them: those of all tenants."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from jobs.job import IllegalTransition
from jobs.operating import ALLOWED, FoundJob, JobAction, JobOrder
from serve_app.orders.app_state import app_state_of
from serve_app.orders.auditing import audited
from serve_app.orders.callers import limit_of, operator_of
from serve_app.orders.responses import json_response
from serve_app.wire.errors import NotFound
from serve_app.wire.operations import OPERATOR, TEXT, answer, operation, query
from serve_app.wire.operator_jobs import (
    NotInThisState,
    OperatorJobLifeBody,
    OperatorJobsBody,
    job_filter,
    jobs_body,
    life_body,
    place_of,
)

router = APIRouter()

MOST_LISTED = 100
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
JOB = {200: answer(OperatorJobLifeBody)}


@router.get("/v1/operator/jobs")
@operation(
    "listOperatorJobs",
    {200: answer(OperatorJobsBody)},
    400,
    404,
    parameters=[
        query("state", TEXT),
        query("tenant", TEXT),
        query("model", TEXT),
        query("queue", TEXT),
        query("slow", {"type": "string", "enum": [JobOrder.RUNNING, JobOrder.WAITING]}),
        query("failed_since", {"type": "number", "minimum": 0}),
        query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}),
        query("cursor", TEXT),
    ],
    security=OPERATOR,
)
async def listing(request: Request) -> Response:
    """Jobs of all tenants, newest first; the slow ones or the failed ones first where asked for."""
    await operator_of(request)
    state = app_state_of(request)
    asked = dict(request.query_params)
    wanted = job_filter(asked, lambda model: state.models.named(model).queue)
    limit = limit_of(request, 20, MOST_LISTED)
    place = place_of(asked.get("cursor"), wanted.order)
    page = await state.ledger.find_jobs(wanted, limit, place)
    return json_response(jobs_body(page, wanted.order))


@router.get("/v1/operator/jobs/{job_id}")
@operation("getOperatorJob", JOB, 404, security=OPERATOR)
async def show(request: Request, job_id: str) -> Response:
    """One job, and its life."""
    await operator_of(request)
    return json_response(life_body(await _found(request, job_id)))


@router.post("/v1/operator/jobs/{job_id}/cancel")
@operation("cancelOperatorJob", JOB, 404, 409, security=OPERATOR)
async def cancel(request: Request, job_id: str) -> Response:
    """Cancel a job, whichever orders share it; one that is held ends with its next heartbeat."""
    return await _act(request, job_id, JobAction.CANCEL)


@router.post("/v1/operator/jobs/{job_id}/requeue")
@operation("requeueOperatorJob", JOB, 404, 409, security=OPERATOR)
async def requeue(request: Request, job_id: str) -> Response:
    """Let a job that has failed or expired wait again, at its place by its order of arrival."""
    return await _act(request, job_id, JobAction.REQUEUE)


async def _act(request: Request, job_id: str, action: JobAction) -> Response:
    """Do it and log it. Raises NotFound, NotInThisState."""
    operator = await operator_of(request)
    ledger = app_state_of(request).ledger
    found = await _found(request, job_id)
    do = {JobAction.CANCEL: ledger.cancel, JobAction.REQUEUE: ledger.requeue}
    async with audited(request, operator, f"jobs {action}", job_id):
        _check(found, action)
        try:
            await do[action](job_id)
        except IllegalTransition as error:
            raise NotInThisState(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    return json_response(life_body(await _found(request, job_id)))


def _check(found: FoundJob, action: JobAction) -> None:
    state = found.job.state
    if state not in ALLOWED[action]:
        allowed = ", ".join(sorted(ALLOWED[action]))
        raise NotInThisState(f"The job is {state}: {action} needs one of {allowed}.")


async def _found(request: Request, job_id: str) -> FoundJob:
    ledger = app_state_of(request).ledger
    found = await ledger.find_job(job_id) if _ID.fullmatch(job_id) else None
    if found is None:
        raise NotFound("There is no such job.", code="job_not_found")
    return found
