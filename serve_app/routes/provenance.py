"""Where a picture says it is from: OpenAI's content provenance checks."""

from __future__ import annotations

import asyncio
import logging
import time

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from dispatch.identity import IdentityUnusable, known_identity
from serve_app.orders.app_state import app_state_of
from serve_app.orders.bodies import Form, content, is_form, is_large, read_form
from serve_app.orders.callers import poller_of
from serve_app.orders.responses import json_response
from serve_app.wire.errors import ApiError, InvalidRequest
from serve_app.wire.operations import answer, operation
from serve_app.wire.provenance import ProvenanceCheckBody, check_body

log = logging.getLogger(__name__)
router = APIRouter()


class KeysUnreadable(ApiError):
    """The keys that pictures are checked with cannot be read just now; please try again."""

    status = 503
    code = "keys_unreadable"
    headers = {"retry-after": "1"}


@router.post("/v1/content_provenance_checks")
@operation("checkProvenance", {200: answer(ProvenanceCheckBody)}, *(400, 408, 413, 415))
async def check(request: Request) -> Response:
    """Look for a signed manifest and for this service's watermark in a picture."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    config = state.config
    if not is_form(request):
        raise InvalidRequest("Send a file as multipart/form-data.", code="invalid_form")
    async with (
        state.inputs.arriving(tenant.id, is_large(request, config.limits)),
        read_form(request, config.limits, most_files=1) as form,
    ):
        upload = _only_file(form)
        async with state.inputs.turn(tenant.id, config.tiers[tenant.tier].weight):
            data = await content(upload, "file", config.limits)
            try:
                identity = await asyncio.to_thread(known_identity, config.identity_files())
            except (IdentityUnusable, OSError) as error:
                log.warning("pictures cannot be checked: %s", error)
                raise KeysUnreadable from None
            checked = await state.inputs.check(data, "file", identity)
    return json_response(check_body(checked, time.time()))


def _only_file(form: Form) -> UploadFile:
    """Raises InvalidRequest."""
    if "file" in form.fields:
        message = "Invalid value for 'file': a text; send a file, its part with a filename."
        raise InvalidRequest(message, param="file", code="invalid_type")
    for name in (*form.fields, *(form.files.keys() - {"file"})):
        raise InvalidRequest(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if "file" not in form.files:
        message = "Missing required parameter: 'file'."
        raise InvalidRequest(message, param="file", code="missing_required_parameter")
    (upload,) = form.files["file"]
    return upload
